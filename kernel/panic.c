/* The end of the kernel: what it knew, on every output. */
#include "cpu.h"
#include "log.h"
#include "paging.h"
#include "regs.h"
#include "trap.h"
#include "x86.h"

#define BACKTRACE_DEPTH 24

/* Frame pointers are followed upwards only, and only inside what holds stacks. */
static void backtrace(u64 frame) {
    for (unsigned i = 0; i < BACKTRACE_DEPTH; i++) {
        if (frame < KERNEL_BASE || frame % 8) return;
        const u64 *saved = (const u64 *)frame;
        if (!saved[1]) return;
        log_info("  at %lx", saved[1]);
        if (saved[0] <= frame) return;
        frame = saved[0];
    }
}

/* A panic in a panic says no more. */
static void begin(void) {
    static bool begun;
    cpu_cli();
    if (begun)
        for (;;)
            cpu_halt();
    begun = true;
    log_serial_reclaim();
}

static NORETURN void end(void) {
    log_info(
        "The kernel has stopped. Names of the addresses: addr2line -e build/kernel.elf ADDRESS");
    for (;;)
        cpu_halt();
}

void panic(const char *format, ...) {
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    text_format_list(text, sizeof(text), format, arguments);
    va_end(arguments);
    begin();
    log_info("PANIC on CPU %u: %s", this_cpu()->id, text);
    backtrace((u64)__builtin_frame_address(0));
    end();
}

void panic_trap(const struct trap_frame *f, const char *what) {
    begin();
    log_info("PANIC on CPU %u: %s, vector %lu, error %lx", this_cpu()->id, what, f->vector,
             f->error);
    log_info("rip %lx  cs %lx  rflags %lx  rsp %lx  ss %lx", f->rip, f->cs, f->rflags, f->rsp,
             f->ss);
    log_info("rax %lx  rbx %lx  rcx %lx  rdx %lx", f->rax, f->rbx, f->rcx, f->rdx);
    log_info("rsi %lx  rdi %lx  rbp %lx  r8  %lx", f->rsi, f->rdi, f->rbp, f->r8);
    log_info("r9  %lx  r10 %lx  r11 %lx  r12 %lx", f->r9, f->r10, f->r11, f->r12);
    log_info("r13 %lx  r14 %lx  r15 %lx", f->r13, f->r14, f->r15);
    log_info("cr0 %lx  cr2 %lx  cr3 %lx  cr4 %lx", read_cr0(), read_cr2(), read_cr3(), read_cr4());
    backtrace(f->rbp);
    end();
}
