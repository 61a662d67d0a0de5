/*
 * The way into a guest and back. struct vcpu begins with its general registers in the order of the
 * ABI (RAX RCX RDX RBX RSP RBP RSI RDI R8..R15), and behind them the top of the kernel stack of the
 * CPU that it runs on. The RSP slot is not used here: the VMCS has the guest's RSP.
 *
 * HOST_RSP is the end of the registers, so an exit pushes them in place; HOST_RIP is vmx_exited.
 */
#define VCPU_GPRS_SIZE 128
#define VCPU_STACK_TOP 128

    .section .text.vmx_entry, "ax"

/* vmx_enter: RDI = struct vcpu, its VMCS is current. Never returns: the next exit calls
   exit_handle(vcpu), a failed entry vmx_entry_failed(vcpu, flags), on an empty kernel stack. */
    .globl vmx_enter
    .type vmx_enter, @function
vmx_enter:
    mov %rdi, %rsp
    pop %rax
    pop %rcx
    pop %rdx
    pop %rbx
    pop %rbp            /* the unused RSP slot */
    pop %rbp
    pop %rsi
    pop %rdi
    pop %r8
    pop %r9
    pop %r10
    pop %r11
    pop %r12
    pop %r13
    pop %r14
    pop %r15
    /* Last before the guest: clears the CPU's buffers where it is vulnerable (MD_CLEAR). */
    testb $1, mitigate_verw(%rip)
    jz 1f
    verw verw_selector(%rip)
1:  vmresume
    /* Not launched yet, or it failed: RSP is the end of the registers. */
    vmlaunch
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
    .size vmx_enter, . - vmx_enter

/* Where the CPU comes back at an exit: RSP is the end of the vCPU's registers. */
    .globl vmx_exited
    .type vmx_exited, @function
vmx_exited:
    push %r15
    push %r14
    push %r13
    push %r12
    push %r11
    push %r10
    push %r9
    push %r8
    push %rdi
    push %rsi
    push %rbp
    push %rbp           /* the unused RSP slot */
    push %rbx
    push %rdx
    push %rcx
    push %rax
    mov %rsp, %rdi
    mov VCPU_STACK_TOP(%rsp), %rsp
    /* No guest value may steer what the kernel speculates on. */
    xor %eax, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    xor %ebx, %ebx
    xor %ebp, %ebp
    xor %esi, %esi
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    testb $1, mitigate_rsb(%rip)
    jnz 2f
1:  push %rbp           /* as a return address of zero: ends backtraces, aligns the stack */
    jmp exit_handle
    /* Fill the return stack buffer before the first RET: 32 calls that never return. */
2:  mov $16, %eax
3:  call 4f
    int3
4:  call 5f
    int3
5:  dec %eax
    jnz 3b
    mov VCPU_STACK_TOP(%rdi), %rsp
    lfence
    jmp 1b
    .size vmx_exited, . - vmx_exited

    .section .note.GNU-stack, "", @progbits
