/*
 * From the boot loader to kernel_main: the Multiboot 2 header, and the way from 32-bit protected
 * mode into the high half in long mode.
 *
 * In (Multiboot 2): EAX magic, EBX physical address of the boot information, paging and interrupts
 * off, flat segments. Out: kernel_main(magic, information, TSC at entry) on boot_stack.
 *
 * The early tables map the low 4 GiB twice over: at 0, and the first 2 GiB of it at KERNEL_BASE.
 */
#include "early.h"

#define MAGIC 0xe85250d6
#define ARCHITECTURE_I386 0
#define TAG_END 0
#define TAG_FRAMEBUFFER 5
#define TAG_MODULE_ALIGN 6
#define OPTIONAL 1

#define CPUID_EXTENDED 0x80000000
#define CPUID_EXTENDED_FEATURES 0x80000001
#define CPUID_LONG_MODE_BIT 29 /* EDX */
#define CPUID_SVM_BIT 2        /* ECX */
#define CR0_PG_BIT 31

#define ENTRY_TABLE 0x3  /* present, writable */
#define ENTRY_LARGE 0x83 /* present, writable, 2 MiB */

    .section .boot, "ax"
    .balign 8
header:
    .long MAGIC
    .long ARCHITECTURE_I386
    .long header_end - header
    .long -(MAGIC + ARCHITECTURE_I386 + (header_end - header))
    .balign 8
    .short TAG_MODULE_ALIGN, 0
    .long 8
    .balign 8
    .short TAG_FRAMEBUFFER, OPTIONAL /* UEFI has no text screen; any size, pixels of 32 bits */
    .long 20
    .long 0, 0, 32
    .balign 8
    .short TAG_END, 0
    .long 8
header_end:

    .code32
/* A CPU with AMD-V goes to the image for it, which begins with a copy of this file. */
    .global choose
choose:
    movl %eax, %ebp
    movl %ebx, %esi
    movl $CPUID_EXTENDED_FEATURES, %eax
    cpuid
    movl %ebp, %eax
    movl %esi, %ebx
    btl $CPUID_SVM_BIT, %ecx
    jnc start
    jmp other_start
    .global start
start:
    cli
    cld
    movl $PHYSICAL(boot_stack_top), %esp
    movl %eax, %ebp
    movl %ebx, %esi
    rdtsc
    movl %eax, PHYSICAL(entry_tsc)
    movl %edx, PHYSICAL(entry_tsc) + 4

    movl $CPUID_EXTENDED, %eax
    cpuid
    cmpl $CPUID_EXTENDED_FEATURES, %eax
    jb no_long_mode
    movl $CPUID_EXTENDED_FEATURES, %eax
    cpuid
    btl $CPUID_LONG_MODE_BIT, %edx
    jnc no_long_mode

    /* Four directories of 2 MiB pages, one behind the other: 2048 entries. */
    movl $PHYSICAL(early_directories), %edi
    movl $ENTRY_LARGE, %eax
    xorl %edx, %edx
    movl $2048, %ecx
1:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b
    movl $(PHYSICAL(early_directories) + ENTRY_TABLE), %eax
    movl %eax, PHYSICAL(early_low)
    movl %eax, PHYSICAL(early_high) + 510 * 8
    addl $0x1000, %eax
    movl %eax, PHYSICAL(early_low) + 8
    movl %eax, PHYSICAL(early_high) + 511 * 8
    addl $0x1000, %eax
    movl %eax, PHYSICAL(early_low) + 16
    addl $0x1000, %eax
    movl %eax, PHYSICAL(early_low) + 24
    movl $(PHYSICAL(early_low) + ENTRY_TABLE), PHYSICAL(early_root)
    movl $(PHYSICAL(early_high) + ENTRY_TABLE), PHYSICAL(early_root) + 511 * 8

    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $PHYSICAL(early_root), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl %cr0, %eax
    btsl $CR0_PG_BIT, %eax
    movl %eax, %cr0
    lgdt boot_gdt_register
    ljmp $SELECTOR_CODE, $start64

/* The only message that C cannot print: on the screen, port 0xE9 and COM1. */
no_long_mode:
    movl $message, %esi
    movl $0xb8000, %edi
1:  lodsb
    testb %al, %al
    jz 3f
    outb %al, $0xe9
    movb $0x0f, %ah
    movw %ax, (%edi)
    addl $2, %edi
    movb %al, %bl
    movw $0x3fd, %dx
    movl $100000, %ecx
2:  inb %dx, %al
    testb $0x20, %al
    loopz 2b
    movb %bl, %al
    movw $0x3f8, %dx
    outb %al, %dx
    jmp 1b
3:  hlt
    jmp 3b
message:
    .asciz "Plinth cannot run here: this CPU has no long mode (64-bit).\r\n"

    .code64
start64:
    movw $SELECTOR_DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movq $boot_stack_top, %rsp
    movl %ebp, %edi
    movl %esi, %esi
    movq entry_tsc, %rdx
    xorl %ebp, %ebp
    pushq $0 /* the end of backtraces, and the alignment of a call */
    movq $kernel_main, %rax
    jmp *%rax

    .balign 8
    .global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
boot_gdt_register:
    .short BOOT_GDT_LIMIT
    .long boot_gdt

    .text
/* stack_enter(RDI: top of a stack, RSI: a function that does not return) */
    .global stack_enter
stack_enter:
    movq %rdi, %rsp
    xorl %ebp, %ebp
    pushq $0
    jmp *%rsi

    .bss
    .balign 4096
    .global early_root
early_root:
    .skip 4096
early_low:
    .skip 4096
early_high:
    .skip 4096
early_directories:
    .skip 4 * 4096
    .skip 8192
boot_stack_top:
entry_tsc:
    .skip 8

    .section .note.GNU-stack, "", @progbits
