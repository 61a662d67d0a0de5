/*
 * The life of a component: CPU tables, instantiation, the event loop, and the "plinth" imports.
 * Compiled once per component, as one program with what wasm2c made of its module.
 */
#include "native.h"
#include COMPONENT_MODULE

/* Exits after which the garbage of rare slow paths in onExit() is collected; other events of a
   device model count as so many of them, those of other components by the time that they take: half
   a millisecond or so, in which they cannot use up their memory. A collection costs as much as some
   hundreds of events. So it waits, if it need not wait for long, until 1 / QUIET_HZ s have passed
   since an event that took long: then somebody waits for more. */
#define COLLECT_EXITS      4096
#define COLLECT_EXITS_LATE (4 * COLLECT_EXITS)
#define EXITS_PER_EVENT    64
#define TICKS_PER_EXIT     512
#define EXITS_OF_LONG      32
#define QUIET_HZ           100

#define SELECTOR_TSS   0x18
#define GATE_INTERRUPT 0x8e
#define TSS_AVAILABLE  0x89

struct gate {
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_middle;
    u32 offset_high, reserved;
} PACKED;

struct tss {
    u32 reserved;
    u64 rsp[3], reserved2, ist[7];
    u16 reserved3[5], io_map;
} PACKED;

struct table_pointer {
    u16 limit;
    const void *base;
} PACKED;

extern const char exception_stubs[];
extern char exception_stack_top[];

static w2c_component component;
#if SERVES_EXITS /* a device model: the others have no such functions */
#define exit_buffer ((struct exit_message *)(linear_base + w2c_component_exitBuffer(&component)))
#endif
static u32 exits_since_collect;

static u64 gdt[5];
static struct gate idt[32];
static struct tss tss;

/* Exceptions are always the end, so all of them share the one stack that is sure to be good. */
static void tables_init(void) {
    u64 base = (u64)&tss;
    gdt[1] = 0x00af9b000000ffff; /* 64-bit code */
    gdt[2] = 0x00cf93000000ffff; /* data */
    gdt[3] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 | (u64)TSS_AVAILABLE << 40 |
             (base >> 24 & 0xff) << 56;
    gdt[4] = base >> 32;
    tss.ist[0] = (u64)exception_stack_top;
    tss.io_map = sizeof(tss);
    for (u32 i = 0; i < ARRAY_SIZE(idt); i++) {
        u64 stub = (u64)exception_stubs + 16 * i;
        idt[i] = (struct gate){
            .offset_low = (u16)stub,
            .selector = 8,
            .ist = 1,
            .type = GATE_INTERRUPT,
            .offset_middle = (u16)(stub >> 16),
            .offset_high = (u32)(stub >> 32),
        };
    }
    struct table_pointer gdtr = {sizeof(gdt) - 1, gdt}, idtr = {sizeof(idt) - 1, idt};
    __asm__ volatile("lgdt %0; lidt %1; ltr %w2" : : "m"(gdtr), "m"(idtr), "r"(SELECTOR_TSS));
}

static void collect_after(u32 exits, u32 limit) {
    exits_since_collect += exits;
    if (likely(exits_since_collect < limit)) return;
    exits_since_collect = 0;
    w2c_component_0x5F_collect(&component);
}

#if SERVES_EXITS
/* Copies `count` u64; both sides are naturally aligned. */
static inline void copy_words(void *to, const volatile void *from, u64 count) {
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

/* Words of a message by its type; what the kernel did not write is not read. */
static inline u64 message_words(u32 type) {
    if (type == EXIT_MMIO || type == EXIT_PORT_STRING || type == EXIT_CLOCK)
        return __builtin_offsetof(struct exit_message, reply) / 8;
    return __builtin_offsetof(struct exit_message, gpa) / 8;
}

static void reply_rare(struct exit_message *page, u32 gprs) {
    for (u32 left = (u16)gprs; left != 0; left &= left - 1) {
        u32 i = (u32)__builtin_ctz(left);
        page->gpr[i] = exit_buffer->gpr[i];
    }
    if (gprs & REPLY_SET_RFLAGS) page->rflags = exit_buffer->rflags;
    page->reply_error = exit_buffer->reply_error;
    page->reply_cr2 = exit_buffer->reply_cr2;
}

/* One exit of vCPU `index`: its message in, the component's answer out. */
static inline void serve_exit(u32 index) {
    struct exit_message *page = (struct exit_message *)(GPA_EXIT + (u64)index * PAGE_SIZE);
    struct exit_message *buffer = exit_buffer;
    u32 type = *(volatile u32 *)&page->type;
    if (likely(message_words(type) == 3)) {
        buffer->type = type;
        buffer->length = page->length;
        *(u64 *)&buffer->port = *(u64 *)&page->port;
        buffer->value = page->value;
    } else {
        copy_words(buffer, page, message_words(type));
        buffer->type = type;
    }
    *(u64 *)&buffer->reply = 0;
    *(u64 *)&buffer->reply_gprs = 0;
    w2c_component_onExit(&component, index);
    *(u64 *)&page->reply = *(u64 *)&buffer->reply;
    page->reply_value = buffer->reply_value;
    *(u64 *)&page->reply_gprs = *(u64 *)&buffer->reply_gprs;
    if (unlikely(*(u64 *)&buffer->reply_gprs != 0)) reply_rare(page, buffer->reply_gprs);
    collect_after(1, COLLECT_EXITS);
}

static inline void event_end(u64 began) {
    (void)began;
    collect_after(EXITS_PER_EVENT, COLLECT_EXITS);
}
#else
static inline void serve_exit(u32 index) {
    trap_text("exit of a vCPU, but this is no device model: ", index);
}

/* After an event that began at `began`. */
static void event_end(u64 began) {
    static u64 last_long;
    u64 now = __builtin_ia32_rdtsc();
    u32 exits = (u32)((now - began) / TICKS_PER_EXIT) + 1;
    if (exits > EXITS_OF_LONG) last_long = now;
    bool quiet = now - last_long > INFO->tsc_hz / QUIET_HZ;
    collect_after(exits, quiet ? COLLECT_EXITS : COLLECT_EXITS_LATE);
}
#endif

static inline u64 wait_events(u64 answer) {
    u64 status = HC_WAIT, events;
    HYPERCALL("+a"(status), "=d"(events) : "D"(answer) : "memory", "cc");
    if (unlikely(status != STATUS_OK)) trap_text("WAIT failed with status ", status);
    return events;
}

/* Waits for events for ever. The answer to the last exit travels with the next WAIT. */
static NORETURN void event_loop(void) {
    u64 answer = 0;
    for (;;) {
        u64 events = wait_events(answer);
        answer = 0;
        while ((u16)events != 0) {
            u32 index = (u32)__builtin_ctzll(events);
            events &= events - 1;
            serve_exit(index);
            if (likely(events == 0))
                answer = 1 + index;
            else
                hypercall1(HC_ANSWER, index);
        }
        if (events != 0) {
            u64 began = __builtin_ia32_rdtsc();
            w2c_component_onEvents(&component, events);
            event_end(began);
        }
    }
}

NORETURN __attribute__((externally_visible)) void component_main(void) {
    linear_base = (u8 *)LINEAR_BASE;
    tables_init();
    if (INFO->abi_version != ABI_VERSION)
        trap_text("built for another ABI version than the kernel's, ", INFO->abi_version);
    linear_init();
    wasm2c_component_instantiate(&component, NULL);
    w2c_component_0x5Fstart(&component);
#if SERVES_EXITS
    u32 offset = w2c_component_exitBuffer(&component);
    if (offset % 8 != 0 || offset + sizeof(struct exit_message) > component.w2c_memory.size)
        trap_text("bad exit buffer ", offset);
#endif
    w2c_component_init(&component);
    event_loop();
}

/* A piece of linear memory: checked here, once, because C code does the access. */
static inline u8 *linear(u32 at, u64 count) {
    if (unlikely(at + count > component.w2c_memory.size)) wasm_rt_trap(WASM_RT_TRAP_OOB);
    return linear_base + at;
}

/* A piece of memory outside: exit pages, shared memory, VM memory. */
static inline void *outside(u64 at, u64 count) {
    if (unlikely(at < GPA_EXIT || at >= GPA_LIMIT || count > GPA_LIMIT - at))
        trap_text("access to guest-physical address ", at);
    return (void *)at;
}

/* A piece of the comm or info page. */
static inline void *within(u64 page, u32 offset, u32 count) {
    if (unlikely((u64)offset + count > PAGE_SIZE)) wasm_rt_trap(WASM_RT_TRAP_OOB);
    return (void *)(page + offset);
}

/* Copies; short pieces word by word, since a string instruction costs dozens of cycles to start. */
static inline void copy(void *to, const void *from, u64 count) {
    if (count > 64) {
        memcpy(to, from, count);
        return;
    }
    u8 *t = to;
    const u8 *f = from;
    if (count == 16) { /* the code of an instruction, a descriptor of a ring */
        __builtin_memcpy(t, f, 8);
        __builtin_memcpy(t + 8, f + 8, 8);
        return;
    }
    for (; count >= 8; count -= 8, t += 8, f += 8)
        __builtin_memcpy(t, f, 8);
    if (count & 4) __builtin_memcpy(t, f, 4), t += 4, f += 4;
    if (count & 2) /* never torn if aligned: indexes of rings are this wide */
        __builtin_memcpy(t, f, 2), t += 2, f += 2;
    if (count & 1) *t = *f;
}

u64 w2c_plinth_hypercall(struct w2c_plinth *env, u32 nr, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4,
                         u64 a5) {
    (void)env;
    return (u64)hypercall(nr, a0, a1, a2, a3, a4, a5);
}

void w2c_plinth_commRead(struct w2c_plinth *env, u32 to, u32 offset, u32 count) {
    (void)env;
    copy(linear(to, count), within(GPA_COMM, offset, count), count);
}

void w2c_plinth_commWrite(struct w2c_plinth *env, u32 offset, u32 from, u32 count) {
    (void)env;
    copy(within(GPA_COMM, offset, count), linear(from, count), count);
}

void w2c_plinth_infoRead(struct w2c_plinth *env, u32 to, u32 offset, u32 count) {
    (void)env;
    copy(linear(to, count), within(GPA_INFO, offset, count), count);
}

void w2c_plinth_sharedRead(struct w2c_plinth *env, u32 to, u64 from, u32 count) {
    (void)env;
    copy(linear(to, count), outside(from, count), count);
}

void w2c_plinth_sharedWrite(struct w2c_plinth *env, u64 to, u32 from, u32 count) {
    (void)env;
    copy(outside(to, count), linear(from, count), count);
}

void w2c_plinth_sharedCopy(struct w2c_plinth *env, u64 to, u64 from, u64 count) {
    (void)env;
    memcpy(outside(to, count), outside(from, count), count);
}

void w2c_plinth_sharedFill(struct w2c_plinth *env, u64 to, u32 value, u64 count) {
    (void)env;
    memset(outside(to, count), (int)value, count);
}

u32 w2c_plinth_sharedLoad32(struct w2c_plinth *env, u64 at) {
    (void)env;
    if (at % 4 != 0) wasm_rt_trap(WASM_RT_TRAP_UNALIGNED);
    return __atomic_load_n((u32 *)outside(at, 4), __ATOMIC_ACQUIRE);
}

u64 w2c_plinth_sharedLoad64(struct w2c_plinth *env, u64 at) {
    (void)env;
    if (at % 8 != 0) wasm_rt_trap(WASM_RT_TRAP_UNALIGNED);
    return __atomic_load_n((u64 *)outside(at, 8), __ATOMIC_ACQUIRE);
}

void w2c_plinth_sharedStore32(struct w2c_plinth *env, u64 at, u32 value) {
    (void)env;
    if (at % 4 != 0) wasm_rt_trap(WASM_RT_TRAP_UNALIGNED);
    /* A full barrier: rings are re-read after what was stored (virtio's event index). */
    __atomic_store_n((u32 *)outside(at, 4), value, __ATOMIC_SEQ_CST);
}

u32 w2c_plinth_sharedReplace(struct w2c_plinth *env, u64 at, u32 size, u64 expected, u64 value) {
    (void)env;
    if ((size != 4 && size != 8) || at % size != 0) wasm_rt_trap(WASM_RT_TRAP_UNALIGNED);
    void *cell = outside(at, size);
    u32 low = (u32)expected;
    if (size == 4)
        return __atomic_compare_exchange_n((u32 *)cell, &low, (u32)value, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    return __atomic_compare_exchange_n((u64 *)cell, &expected, value, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

u32 w2c_plinth_portIn(struct w2c_plinth *env, u32 port, u32 size) {
    u32 value = 0;
    (void)env;
    if (size == 1)
        __asm__ volatile("inb %w1, %b0" : "+a"(value) : "d"(port));
    else if (size == 2)
        __asm__ volatile("inw %w1, %w0" : "+a"(value) : "d"(port));
    else
        __asm__ volatile("inl %w1, %0" : "+a"(value) : "d"(port));
    return value;
}

void w2c_plinth_portOut(struct w2c_plinth *env, u32 port, u32 size, u32 value) {
    (void)env;
    if (size == 1)
        __asm__ volatile("outb %b0, %w1" : : "a"(value), "d"(port));
    else if (size == 2)
        __asm__ volatile("outw %w0, %w1" : : "a"(value), "d"(port));
    else
        __asm__ volatile("outl %0, %w1" : : "a"(value), "d"(port));
}

u64 w2c_plinth_now(struct w2c_plinth *env) {
    (void)env;
    return __builtin_ia32_rdtsc();
}

/* A string object of AssemblyScript: UTF-16, its length in bytes in the word before it. */
static const u16 *string_at(u32 at, u32 *count) {
    *count = 0;
    if (at < 4 || at > component.w2c_memory.size) return NULL;
    *count = *(const u32 *)linear(at - 4, 4) / 2;
    return (const u16 *)linear(at, (u64)*count * 2);
}

void w2c_plinth_abort(struct w2c_plinth *env, u32 message, u32 file, u32 line, u32 column) {
    u32 message_count, file_count;
    const u16 *message_text = string_at(message, &message_count);
    const u16 *file_text = string_at(file, &file_count);
    (void)env;
    trap_abort(message_text, message_count, file_text, file_count, line, column);
}
