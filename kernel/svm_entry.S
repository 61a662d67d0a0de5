/* AMD-V: the way into a guest and back. RSP at VMRUN is the end of the vCPU's registers, and so it is
   behind it; RAX is in the VMCB. */
#include "entry.h"

#define VCPU_VMCB 136    /* pointer, then physical address */
#define VCPU_HOST 152    /* physical address of what VMSAVE saved of this CPU */
#define VMCB_RAX 0x5f8

    .section .text.enter, "ax"

/* guest_enter: RDI = struct vcpu. Never returns: the next exit calls svm_exited(vcpu), on an empty
   kernel stack. From CLGI on nothing interrupts the host; with IF set, what is pending ends the
   guest's run as soon as VMRUN has set GIF. */
    .globl guest_enter
    .type guest_enter, @function
guest_enter:
    mov VCPU_VMCB(%rdi), %rax
    mov (%rdi), %rcx
    mov %rcx, VMCB_RAX(%rax)
    mov %rdi, %rsp
    pop_registers
    mov (VCPU_VMCB + 8 - VCPU_GPRS_SIZE)(%rsp), %rax
    clgi
    sti
    vmload %rax
    clear_buffers
    vmrun %rax
    jmp left
    .size guest_enter, . - guest_enter

    .text
left:
    vmsave %rax
    push_registers
    mov VCPU_HOST(%rsp), %rax
    vmload %rax
    cli
    stgi
    enter_kernel svm_exited

    define_enter_again

    .section .note.GNU-stack, "", @progbits
