/*
 * Where a start-up IPI begins: copied to a page below 1 MiB. From real mode straight to 64-bit mode, with the page
 * tables, the stack and the function that cpus_start has filled in.
 */
#define CR0_PE_PG   0x80000001
#define CR4_PAE     0x20
#define MSR_EFER    0xc0000080
#define EFER_LME    0x100

    .section .rodata, "a"
    .code16
    .balign 16
    .globl ap_begin, ap_end, ap_cr3
ap_begin:
    cli
    cld
    mov %cs, %ax
    mov %ax, %ds
    lgdtl ap_pointer - ap_begin
    mov ap_cr3 - ap_begin, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    cpuid                       /* an exit with LME, and without PAE */
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $CR0_PE_PG, %eax
    mov %eax, %cr0
    ljmpl $0x08, $ap_long
    .balign 8
ap_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
ap_pointer:
    .word . - ap_gdt - 1
    .long ap_low_gdt
ap_cr3:
    .long 0
ap_end:
    .set ap_low_gdt, 0x60000 + ap_gdt - ap_begin

    .code64
    .text
ap_long:
    mov $0x10, %eax
    mov %eax, %ss
    mov ap_stack, %rsp
    xor %ebp, %ebp
    call ap_main
1:  hlt
    jmp 1b
    .section .note.GNU-stack, "", @progbits
