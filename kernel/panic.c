/* The end of the kernel: what it knew, on every output. */
#include "apic.h"
#include "cpu.h"
#include "domain.h"
#include "log.h"
#include "paging.h"
#include "regs.h"
#include "smp.h"
#include "time.h"
#include "trap.h"
#include "x86.h"

#define BACKTRACE_DEPTH 24

extern char text_start[], text_end[], build_id[]; /* kernel.ld */

bool panicking;

/* Whether a call stands before this address: relative, or through a register or memory. */
static bool is_return_address(u64 address) {
    const u8 *code = (const u8 *)address;
    return address >= (u64)text_start + 8 && address < (u64)text_end &&
           (code[-5] == 0xe8 || code[-2] == 0xff || code[-3] == 0xff || code[-6] == 0xff ||
            code[-7] == 0xff);
}

/* Return addresses on the stack from here up, since not all of the kernel has frame pointers: some
   may be left from earlier calls. A double fault is one of the CPU's stack, and begins at its end.
 */
static void backtrace(u64 from, bool overflow) {
    u64 top = this_cpu()->stack_top, bottom = top - STACK_PAGES * PAGE_SIZE;
    if (overflow) from = bottom;
    if (!top || from < KERNEL_BASE || from % 8) return;
    u64 end = from >= bottom && from < top ? top : (from | (PAGE_SIZE - 1)) + 1;
    unsigned found = 0;
    for (; from < end && found < BACKTRACE_DEPTH; from += 8) {
        u64 word = *(const u64 *)from;
        if (!is_return_address(word)) continue;
        log_info("  at %lx", word);
        found++;
    }
}

/* What this CPU did last, and whom the numbers mean. */
static void history(u64 now) {
    static const char *const kinds[] = {"is switched to", "hypercall", "fails"};
    const struct cpu *cpu = this_cpu();
    u32 first = cpu->traced > TRACE_EVENTS ? cpu->traced - TRACE_EVENTS : 0;
    for (u32 n = first; n < cpu->traced; n++) {
        const struct trace_event *e = &cpu->trace[n % TRACE_EVENTS];
        log_info("  %lu us before: domain %u vCPU %u %s %u:%u",
                 (now - e->time) * 1000 / (tsc_hz / 1000), e->domain, e->vcpu, kinds[e->kind],
                 e->value >> 8, e->value & 0xff);
    }
    for (const struct domain *domain = domains; domain; domain = domain->next)
        log_info("  domain %u is %s", domain->id, domain->label);
}

/* A panic in a panic says no more. */
static u64 begin(void) {
    cpu_cli();
    if (atomic_swap(&panicking, true))
        for (;;)
            cpu_halt();
    for (u32 i = 0; i < cpus_online; i++)
        if (&cpus[i] != this_cpu()) lapic_ipi(cpus[i].apic_id, IPI_NMI);
    log_serial_reclaim();
    return rdtsc();
}

static NORETURN void end(u64 now) {
    const u64 *id = (const u64 *)build_id;
    history(now);
    log_info("The kernel has stopped, build %016lx. For names: plinth decode FILE",
             __builtin_bswap64(*id));
    for (;;)
        cpu_halt();
}

void panic(const char *format, ...) {
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    text_format_list(text, sizeof(text), format, arguments);
    va_end(arguments);
    u64 now = begin();
    log_info("PANIC on CPU %u: %s", this_cpu()->id, text);
    backtrace((u64)__builtin_frame_address(0), false);
    end(now);
}

void panic_trap(const struct trap_frame *f, const char *what) {
    u64 now = begin();
    log_info("PANIC on CPU %u: %s, vector %lu, error %lx", this_cpu()->id, what, f->vector,
             f->error);
    log_info("rip %lx  cs %lx  rflags %lx  rsp %lx  ss %lx", f->rip, f->cs, f->rflags, f->rsp,
             f->ss);
    log_info("rax %lx  rbx %lx  rcx %lx  rdx %lx", f->rax, f->rbx, f->rcx, f->rdx);
    log_info("rsi %lx  rdi %lx  rbp %lx  r8  %lx", f->rsi, f->rdi, f->rbp, f->r8);
    log_info("r9  %lx  r10 %lx  r11 %lx  r12 %lx", f->r9, f->r10, f->r11, f->r12);
    log_info("r13 %lx  r14 %lx  r15 %lx", f->r13, f->r14, f->r15);
    log_info("cr0 %lx  cr2 %lx  cr3 %lx  cr4 %lx", read_cr0(), read_cr2(), read_cr3(), read_cr4());
    backtrace(f->rsp, f->vector == VECTOR_DF);
    end(now);
}
