/*
 * The way in from the IDT: 256 stubs that make every stack look the same, and one body that saves
 * the registers in the order of struct trap_frame (asserted in trap.c) and calls trap_dispatch.
 * Every register is restored. Then the MSR accesses that may fault.
 */
#define VECTORS_WITH_ERROR 0x60227d00 /* 8, 10 to 14, 17, 21, 29, 30 */

    .text
    .macro stub errors
    .balign 16
    .if (\errors >> (vector % 32) & 1) == 0
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endm

    .balign 16
stubs:
    .set vector, 0
    .rept 32
    stub VECTORS_WITH_ERROR
    .endr
    .rept 256 - 32
    stub 0
    .endr

trap_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call trap_dispatch
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq

/* bool rdmsr_safe(EDI: msr, RSI: u64 *value); clobbers RCX, RDX */
    .global rdmsr_safe
rdmsr_safe:
    movl %edi, %ecx
1:  rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, (%rsi)
    movl $1, %eax
    ret

/* bool wrmsr_safe(EDI: msr, RSI: value); clobbers RCX, RDX */
    .global wrmsr_safe
wrmsr_safe:
    movl %edi, %ecx
    movl %esi, %eax
    movq %rsi, %rdx
    shrq $32, %rdx
2:  wrmsr
    movl $1, %eax
    ret
faulted:
    xorl %eax, %eax
    ret

/* Pairs: an instruction that may raise #GP, and where to go on. */
    .section .fixup_table, "a"
    .quad 1b, faulted
    .quad 2b, faulted

    .section .rodata
    .balign 8
    .global trap_stubs
trap_stubs:
    .quad stubs

    .section .note.GNU-stack, "", @progbits
