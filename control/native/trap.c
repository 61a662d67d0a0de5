/* The end of a component: one line about the cause and the addresses that led to it, to the kernel.
 */
#include "native.h"
#include "wasm-rt.h"

#define TEXT_LIMIT 1024
#define BACKTRACE  8

extern char stack_top[], stack_bottom[], image_end[];

static u32 length;

static void put_char(char c) {
    if (length < TEXT_LIMIT) COMM[length++] = c;
}

static void put_text(const char *text) {
    while (*text)
        put_char(*text++);
}

static void put_hex(u64 value) {
    int digits = 1;
    while (digits < 16 && value >> (4 * digits))
        digits++;
    put_text("0x");
    while (digits-- > 0)
        put_char("0123456789abcdef"[value >> (4 * digits) & 15]);
}

static void put_decimal(u32 value) {
    if (value >= 10) put_decimal(value / 10);
    put_char('0' + value % 10);
}

/* UTF-16 of the program itself: messages and file names, in practice ASCII. */
static void put_wide(const u16 *text, u32 count) {
    for (u32 i = 0; i < count && i < 300; i++)
        put_char(text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?');
}

/* Return addresses, from the frame at rbp on: only frames on our stack, only addresses in the
 * image. */
static void put_backtrace(u64 rbp) {
    put_text(" [");
    for (int i = 0; i < BACKTRACE; i++) {
        if (rbp < (u64)stack_bottom || rbp > (u64)stack_top - 16 || rbp % 8 != 0) break;
        const u64 *frame = (const u64 *)rbp;
        if (frame[1] < GPA_IMAGE || frame[1] >= (u64)image_end) break;
        if (i > 0) put_char(' ');
        put_hex(frame[1]);
        if (frame[0] <= rbp) break;
        rbp = frame[0];
    }
    put_char(']');
}

static NORETURN void finish(u64 rbp) {
    put_backtrace(rbp);
    for (;;)
        hypercall1(HC_TRAP, length);
}

void trap_text(const char *text, u64 value) {
    length = 0;
    put_text(text);
    put_hex(value);
    finish((u64)__builtin_frame_address(0));
}

void trap_abort(const u16 *message, u32 message_length, const u16 *file, u32 file_length, u32 line,
                u32 column) {
    length = 0;
    put_wide(message, message_length);
    put_text(" @ ");
    put_wide(file, file_length);
    put_char(':');
    put_decimal(line);
    put_char(':');
    put_decimal(column);
    finish((u64)__builtin_frame_address(0));
}

void trap_exception(const struct trap_frame *frame, u64 rbp, u64 cr2) {
    length = 0;
    if (frame->vector == 14 && cr2 >= LINEAR_BASE && cr2 < LINEAR_BASE + 8 * GIB) {
        put_text("out of bounds access at ");
        put_hex(cr2 - LINEAR_BASE);
    } else if (frame->vector == 14 && cr2 < (u64)stack_bottom &&
               cr2 >= (u64)stack_bottom - PAGE_SIZE) {
        put_text("stack overflow");
    } else {
        put_text(frame->vector == 14 ? "page fault at " : "exception ");
        put_hex(frame->vector == 14 ? cr2 : frame->vector);
        put_text(" error ");
        put_hex(frame->error);
    }
    put_text(" rip ");
    put_hex(frame->rip);
    finish(rbp);
}

void wasm_rt_trap(wasm_rt_trap_t trap) {
    static const char names[][32] = {
        [WASM_RT_TRAP_OOB] = "out of bounds access",
        [WASM_RT_TRAP_INT_OVERFLOW] = "integer overflow",
        [WASM_RT_TRAP_DIV_BY_ZERO] = "division by zero",
        [WASM_RT_TRAP_UNREACHABLE] = "unreachable",
        [WASM_RT_TRAP_CALL_INDIRECT] = "bad indirect call",
        [WASM_RT_TRAP_NULL_REF] = "null reference",
        [WASM_RT_TRAP_EXHAUSTION] = "stack overflow",
    };
    length = 0;
    if (trap == WASM_RT_TRAP_UNREACHABLE && memory_exhausted())
        put_text("out of memory");
    else if (trap < ARRAY_SIZE(names) && names[trap][0])
        put_text(names[trap]);
    else
        put_text("trap");
    finish((u64)__builtin_frame_address(0));
}
