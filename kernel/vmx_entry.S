/* VT-x: the way into a guest and back. HOST_RSP is the end of the vCPU's registers, so an exit pushes
   them in place; HOST_RIP is vmx_exited. */
#include "entry.h"

    .section .text.enter, "ax"

/* guest_enter: RDI = struct vcpu, its VMCS is current. Never returns: the next exit calls
   exit_handle(vcpu), a failed entry vmx_entry_failed(vcpu, flags), on an empty kernel stack. */
    .globl guest_enter
    .type guest_enter, @function
guest_enter:
    mov %rdi, %rsp
    pop_registers
    clear_buffers
    vmresume
    /* Not launched yet, or it failed: RSP is the end of the registers. */
    vmlaunch
    jmp entry_refused
    .size guest_enter, . - guest_enter

    .text
entry_refused:
    /* The guest's registers are still loaded: nothing of them may be used. */
    pushfq
    pop %rsi
    mov %r15, -8(%rsp)  /* PUSHFQ was put in its slot */
    lea -VCPU_GPRS_SIZE(%rsp), %rdi
    mov (VCPU_STACK_TOP - VCPU_GPRS_SIZE)(%rsp), %rsp
    cld
    xor %ebp, %ebp
    push %rbp
    jmp vmx_entry_failed

    define_enter_again

/* Where the CPU comes back at an exit: RSP is the end of the vCPU's registers. */
    .globl vmx_exited
    .type vmx_exited, @function
vmx_exited:
    push_registers
    enter_kernel exit_handle
    .size vmx_exited, . - vmx_exited

    .section .note.GNU-stack, "", @progbits
