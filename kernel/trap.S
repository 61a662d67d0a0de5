/*
 * The way in from the IDT: 256 stubs that make every stack look the same, and one body that saves
 * the registers in the order of struct trap_frame (asserted in trap.c) and calls trap_dispatch.
 * Every register is restored.
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
    .irp register, rax, rbx, rcx, rdx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    pushq %\register
    .endr
    cld
    movq %rsp, %rdi
    call trap_dispatch
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rdx, rcx, rbx, rax
    popq %\register
    .endr
    addq $16, %rsp
    iretq

    .section .rodata
    .balign 8
    .global trap_stubs
trap_stubs:
    .quad stubs

    .section .note.GNU-stack, "", @progbits
