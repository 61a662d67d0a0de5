/* What the ways into a guest and back have in common, for assembly. struct vcpu begins with its
   general registers in the order of the ABI (RAX RCX RDX RBX RSP RBP RSI RDI R8..R15), and behind
   them the top of the kernel stack of the CPU that it runs on. The RSP slot is not used here: VMCS
   and VMCB have the guest's RSP. */
/* clang-format off */
#define VCPU_GPRS_SIZE 128
#define VCPU_STACK_TOP 128
#define CPU_STACK_TOP 8
#define CPU_CURRENT 16

/* RSP = struct vcpu; afterwards the end of its registers. */
.macro pop_registers
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
.endm

/* Clears the CPU's buffers where that is asked for at each entry: last before the guest. */
.macro clear_buffers
    testb $-1, mitigate_entry(%rip)
    jz 1f
    verw verw_selector(%rip)
1:
.endm

.macro push_registers
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
.endm

/* RSP = struct vcpu: to handler(vcpu) on an empty kernel stack. No guest value may steer what the
   kernel speculates on. */
.macro enter_kernel handler
    mov %rsp, %rdi
    mov VCPU_STACK_TOP(%rsp), %rsp
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
    testb $-1, mitigate_exit(%rip)
    jnz 2f
1:  push %rbp           /* as a return address of zero: ends backtraces, aligns the stack */
    jmp \handler
2:  push %rdi
    movzbl mitigate_exit(%rip), %edi
    call clear_predictors
    pop %rdi
    xor %eax, %eax
    xor %ecx, %ecx
    jmp 1b
.endm

/* An NMI came between the last look at cpu->poked and the guest: looks again. */
.macro define_enter_again
    .globl enter_again
enter_again:
    mov %gs:CPU_CURRENT, %rdi
    mov %gs:CPU_STACK_TOP, %rsp
    cld
    xor %ebp, %ebp
    push %rbp
    jmp sched_resume
.endm
