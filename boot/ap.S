/*
 * How a CPU beyond the first comes to ap_main: it starts in real mode at the page that it was sent
 * to, AP_PAGE, where this code has been copied. By way of start.S's early tables,
 * which map the low addresses too, it goes straight to long mode.
 *
 * Out: ap_main(struct cpu) on that CPU's stack and the kernel's own page tables.
 */
#include "early.h"

#define COPIED(symbol) (AP_PAGE + (symbol) - ap_trampoline)

#define CPU_STACK_TOP 8

#define CR0_PE_ET_PG 0x80000011
#define EFER_NXE 0x800

    .section .rodata
    .global ap_trampoline, ap_trampoline_end
    .code16
ap_trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl COPIED(gdt_register)
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $PHYSICAL(early_root), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME | EFER_NXE, %eax
    wrmsr
    movl $CR0_PE_ET_PG, %eax
    movl %eax, %cr0
    ljmpl $SELECTOR_CODE, $COPIED(in_long_mode)
    .code64
in_long_mode:
    movq $in_kernel, %rax
    jmp *%rax
gdt_register:
    .short BOOT_GDT_LIMIT
    .long boot_gdt
ap_trampoline_end:

    .text
in_kernel:
    movw $SELECTOR_DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movq ap_root(%rip), %rax
    movq %rax, %cr3
    /* Only one CPU may go on: one that was given up comes too late. */
    xorl %edi, %edi
    xchgq %rdi, ap_cpu(%rip)
1:  testq %rdi, %rdi
    jnz 2f
    hlt
    jmp 1b
2:  movq CPU_STACK_TOP(%rdi), %rsp
    xorl %ebp, %ebp
    pushq $0
    jmp ap_main

    .section .note.GNU-stack, "", @progbits
