/* Exceptions, NMIs and interrupts that arrive through the IDT, and interrupt handlers by vector. */
#pragma once

#include "regs.h"
#include "types.h"

#define VECTOR_NMI        2
#define VECTOR_EXCEPTIONS 32   /* the first vector that is no exception */
#define VECTOR_IRQ_BASE   0x30 /* ISA IRQ n arrives here + n */
#define TIMER_VECTOR      0xe0
#define POKE_VECTOR       0xe1 /* from another CPU: smp.c */
#define POSTED_VECTOR     0xe2 /* edges for the guest that runs */
#define SPURIOUS_VECTOR   0xff

#define IST_NMI           1
#define IST_DOUBLE_FAULT  2
#define IST_MACHINE_CHECK 3

/* As trap.S pushes it, lowest address first. */
struct trap_frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rdx, rcx, rbx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

/* One handler a vector; it runs with interrupts off, and irq_dispatch sends the EOI after it. */
void irq_handler(u8 vector, void (*handler)(u8 vector));
/* Runs a vector's handler and sends the EOI: from the IDT while idle, and after a VM exit that
   acknowledged the interrupt. */
void irq_dispatch(u8 vector);

void trap_dispatch(struct trap_frame *frame); /* from trap.S */
extern const u64 trap_stubs;                  /* vector n enters at this + n * TRAP_STUB_SIZE */
#define TRAP_STUB_SIZE 16

/* Called on an NMI, on its own stack; the frame tells what it interrupted. */
void nmi_handle(struct trap_frame *frame);
void nmi_taken(void); /* where it was an exit */
