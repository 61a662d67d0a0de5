/*
 * Entry of a component's image, and its exception stubs.
 *
 * in:  32-bit protected mode without paging, flat segments, IF=0; all of RAM is zero
 * out: component_main() in 64-bit mode, never back
 *
 * The page tables made here (runtime.c's linear_init() adds linear memory):
 *
 *   PML4[0]   0 .. 2 MiB      info R, comm RW, image R-X         4 KiB pages
 *             .. 16 MiB       the rest of a large image R-X      2 MiB pages
 *             16 .. 18 MiB    bss and stack RW                   4 KiB pages
 *             128 MiB .. 1 GiB  exit pages, shared memory RW     2 MiB pages
 *             1 .. 512 GiB    shared memory, VM memory RW        1 GiB pages
 *   PML4[32]  linear memory
 *
 * Below the stack, which is the first thing in RAM, nothing is mapped.
 */
#define ABI_CONST(name, value) .set name, value
#define ABI_CONST64(name, value)
#define ABI_ENUM(name, prefix)
#define ABI_VALUE(prefix, name, value)
#define ABI_ENUM_END(name)
#define ABI_STRUCT(name, c_name, size)
#define ABI_FIELD(c_name, type, name, offset)
#define ABI_ARRAY(c_name, type, name, offset, count)
#define ABI_STRUCT_END(name, c_name, size)
#include "abi.def"

    /* Entries: present, writable, accessed, dirty, large; no-execute is bit 31 of the upper half. */
    .set TABLE, 0x23
    .set CODE, 0x21
    .set CODE_LARGE, 0xa1
    .set CONST, 0x21
    .set DATA, 0x63
    .set DATA_LARGE, 0xe3
    .set NX, 0x80000000
    .set LARGE, 0x200000

    .set CR4_PAE, 1 << 5
    .set CR0_PG_WP, 1 << 31 | 1 << 16
    .set MSR_EFER, 0xc0000080
    .set EFER_LME_NXE, 1 << 8 | 1 << 11

    .section .entry, "ax"
    .code32
    .globl component_entry
component_entry:
    jmp 1f
    .org component_entry + IMAGE_SIZE_OFFSET
    .long image_end - GPA_IMAGE
    .org component_entry + IMAGE_ABI_OFFSET
    .long IMAGE_MAGIC + ABI_VERSION
    .org component_entry + IMAGE_ROLE_OFFSET
    .long image_role
1:  cld
    movl $(pdpt_low + TABLE), pml4
    movl $(pdpt_linear + TABLE), pml4 + 32 * 8
    movl $(pd_linear + TABLE), pdpt_linear
    movl $(pd_low + TABLE), pdpt_low
    movl $(pt_first + TABLE), pd_low
    movl $(pt_ram + TABLE), pd_low + GPA_RAM / LARGE * 8

    movl $(GPA_INFO + CONST), pt_first + GPA_INFO / PAGE_SIZE * 8
    movl $NX, pt_first + GPA_INFO / PAGE_SIZE * 8 + 4
    movl $(GPA_COMM + DATA), pt_first + GPA_COMM / PAGE_SIZE * 8
    movl $NX, pt_first + GPA_COMM / PAGE_SIZE * 8 + 4

    /* The image: eax runs through it, page by page and then in large pages. */
    movl $GPA_IMAGE, %eax
1:  movl %eax, %ebx
    shrl $12, %ebx
    leal CODE(%eax), %ecx
    movl %ecx, pt_first(,%ebx,8)
    addl $PAGE_SIZE, %eax
    cmpl $LARGE, %eax
    je 2f
    cmpl $image_end, %eax
    jb 1b
2:  cmpl $image_end, %eax
    jae 3f
    movl %eax, %ebx
    shrl $21, %ebx
    leal CODE_LARGE(%eax), %ecx
    movl %ecx, pd_low(,%ebx,8)
    addl $LARGE, %eax
    jmp 2b

    /* The runtime's own memory. */
3:  movl $GPA_RAM, %eax
    xorl %ebx, %ebx
4:  leal DATA(%eax), %ecx
    movl %ecx, pt_ram(,%ebx,8)
    movl $NX, pt_ram + 4(,%ebx,8)
    incl %ebx
    addl $PAGE_SIZE, %eax
    cmpl $runtime_end, %eax
    jb 4b

    /* Exit pages and shared memory up to 1 GiB. */
    movl $(GPA_EXIT / LARGE), %ebx
5:  movl %ebx, %eax
    shll $21, %eax
    orl $DATA_LARGE, %eax
    movl %eax, pd_low(,%ebx,8)
    movl $NX, pd_low + 4(,%ebx,8)
    incl %ebx
    cmpl $512, %ebx
    jb 5b

    /* 1 GiB and up. */
    movl $1, %ebx
6:  movl %ebx, %eax
    shll $30, %eax
    orl $DATA_LARGE, %eax
    movl %eax, pdpt_low(,%ebx,8)
    movl %ebx, %eax
    shrl $2, %eax
    orl $NX, %eax
    movl %eax, pdpt_low + 4(,%ebx,8)
    incl %ebx
    cmpl $512, %ebx
    jb 6b

    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME_NXE, %eax
    wrmsr
    movl %cr0, %eax
    orl $CR0_PG_WP, %eax
    movl %eax, %cr0
    lgdt boot_gdtr
    ljmp $8, $long_mode

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $stack_top, %esp
    xorl %ebp, %ebp
    call component_main
    ud2

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    /* 64-bit code, accessed: the image is not writable */
    .quad 0x00cf93000000ffff    /* data, accessed */
boot_gdtr:
    .word . - boot_gdt - 1
    .long boot_gdt

/*
 * Exception stubs, 16 bytes apart. Each makes the stack a struct trap_frame.
 * in: the CPU's exception frame. out: trap_exception(frame, rbp, cr2), never back.
 */
    .text
    .balign 16
    .globl exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushq $0
    .endif
    pushq $vector
    jmp exception_common
    .set vector, vector + 1
    .endr
exception_common:
    movq %rsp, %rdi
    movq %rbp, %rsi
    movq %cr2, %rdx
    xorl %ebp, %ebp
    andq $-16, %rsp
    call trap_exception
    ud2

    .section .stack, "aw", @nobits
    .globl stack_top, stack_bottom, exception_stack_top
stack_bottom:
    .skip 16384
stack_top:
    .skip 4096
exception_stack_top:

    .section .tables, "aw", @nobits
    .balign 4096
    .globl pt_ram, pd_linear
pml4:        .skip 4096
pdpt_low:    .skip 4096
pd_low:      .skip 4096
pt_first:    .skip 4096
pt_ram:      .skip 4096
pdpt_linear: .skip 4096
pd_linear:   .skip 4096

    .section .note.GNU-stack, "", @progbits
