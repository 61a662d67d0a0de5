/*
 * A kernel that starts by Multiboot 1, Multiboot 2 and PVH, whichever is asked for: all are entered in flat
 * 32-bit protected mode without paging, with EBX pointing to what the loader tells, and EAX saying who it was.
 */
#define FLAGS        3          /* page-aligned modules, memory */
#define MAGIC        0x1badb002
#define MAGIC2       0xe85250d6
#define PHYS32_ENTRY 18

    .section .head, "ax"
    .balign 8
header2:
    .long MAGIC2, 0, header2_end - header2, -(MAGIC2 + header2_end - header2)
    .balign 8
    .short 1, 0                 /* information that it wants: command line, modules, memory, map, ACPI */
    .long 8 + 5 * 4
    .long 1, 3, 4, 6, 15
    .balign 8
    .short 10, 0                /* it may be moved, and wants to be high: 2 MiB, below 16 MiB */
    .long 24, 0x100000, 0xffffff, 0x200000, 2
    .balign 8
    .short 6, 0
    .long 8
    .balign 8
    .short 0, 0
    .long 8
header2_end:
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

    .globl _start
_start:
    cld
    mov (%ebx), %edi            /* there is no stack yet but what the first word is good for */
    lea 4(%ebx), %esp
    call 1f                     /* where are we? */
1:  pop %ecx
    mov %edi, (%ebx)
    sub $1b, %ecx
    lea stack_top(%ecx), %esp
    push %ecx
    push %ebx
    push %eax
    call start
1:  hlt
    jmp 1b

    .section .note.xen, "a", @note
    .long 4, 4, PHYS32_ENTRY
    .asciz "Xen"
    .long _start

    .bss
    .balign 16
    .skip 8192
stack_top:
    .section .note.GNU-stack, "", @progbits
