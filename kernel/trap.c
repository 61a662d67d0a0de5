/* Exceptions end the kernel, NMIs are counted, interrupts go to their handlers. */
#include "trap.h"

#include "apic.h"
#include "log.h"

_Static_assert(offsetof(struct trap_frame, rax) == 14 * 8 &&
                   offsetof(struct trap_frame, vector) == 15 * 8 &&
                   sizeof(struct trap_frame) == 22 * 8,
               "struct trap_frame is what trap.S pushes");

static void (*handlers[256])(u8 vector);

static const char *const exception_names[VECTOR_EXCEPTIONS] = {
    "divide error",
    "debug exception",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    NULL,
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    NULL,
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization exception",
    "control protection",
};

void irq_handler(u8 vector, void (*handler)(u8 vector)) { handlers[vector] = handler; }

void irq_dispatch(u8 vector) {
    if (vector == SPURIOUS_VECTOR) return;
    if (handlers[vector])
        handlers[vector](vector);
    else
        log_limited("interrupt with vector %u has no handler", vector);
    lapic_eoi();
}

void trap_dispatch(struct trap_frame *frame) {
    if (frame->vector >= VECTOR_EXCEPTIONS) {
        irq_dispatch((u8)frame->vector);
    } else if (frame->vector == VECTOR_NMI) {
        nmi_handle(frame);
    } else {
        const char *name = exception_names[frame->vector];
        panic_trap(frame, name ? name : "unknown exception");
    }
}
