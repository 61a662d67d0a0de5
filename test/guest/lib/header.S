/*
 * The head of every test guest: a minimal Linux bzImage and the way from its 64-bit entry to
 * guest_start, and the stubs of all 256 vectors.
 *
 * Source: Linux Documentation/arch/x86/boot.rst, "The Linux/x86 Boot Protocol".
 */
#define SETUP_SECTORS 1
#define VERSION       0x20f
#define LOADED_HIGH   1
#define KERNEL_64     1
#define LOAD_ADDRESS  0x200000

    .section .setup, "a"
setup:
    .org setup + 0x1f1
    .byte SETUP_SECTORS
    .word 0                     /* root_flags */
    .long image_paragraphs      /* syssize */
    .word 0, 0, 0               /* ram_size, vid_mode, root_dev */
    .word 0xaa55                /* boot_flag */
    .byte 0xeb, header_end - . - 1
    .ascii "HdrS"
    .word VERSION
    .long 0                     /* realmode_swtch */
    .word 0, 0                  /* start_sys_seg, kernel_version */
    .byte 0, LOADED_HIGH        /* type_of_loader, loadflags */
    .word 0                     /* setup_move_size */
    .long LOAD_ADDRESS          /* code32_start */
    .long 0, 0, 0               /* ramdisk_image, ramdisk_size, bootsect_kludge */
    .word 0                     /* heap_end_ptr */
    .byte 0, 0                  /* ext_loader_ver, ext_loader_type */
    .long 0                     /* cmd_line_ptr */
    .long 0x7fffffff            /* initrd_addr_max */
    .long 0x200000              /* kernel_alignment */
    .byte 0, 21                 /* relocatable_kernel, min_alignment */
    .word KERNEL_64             /* xloadflags */
    .long 255                   /* cmdline_size */
    .long 0                     /* hardware_subarch */
    .quad 0                     /* hardware_subarch_data */
    .long 0, 0                  /* payload_offset, payload_length */
    .quad 0                     /* setup_data */
    .quad LOAD_ADDRESS          /* pref_address */
    .long image_room            /* init_size */
    .long 0                     /* handover_offset */
header_end:
    .org setup + (SETUP_SECTORS + 1) * 512

    .section .head, "ax"
head:
    hlt                         /* the 32-bit entry: nobody uses it */
    jmp head
    .org head + 0x200
    .globl entry64              /* RSI: boot_params */
entry64:
    cld
    mov $stack_top, %esp
    mov $bss_start, %edi
    mov $bss_end, %ecx
    sub %edi, %ecx
    xor %eax, %eax
    rep stosb
    mov %rsi, %rdi
    xor %ebp, %ebp
    call guest_start
1:  hlt
    jmp 1b

/* Loads the GDT and the task register, and makes CS, DS, ES and SS its own. RDI: the GDT pointer. */
    .globl load_segments
load_segments:
    lgdt (%rdi)
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x20, %eax
    ltr %ax
    pop %rax
    push $0x10
    push %rax
    lretq

/* Vectors 0 to 255, 16 bytes apart: all look alike on the stack, an error code of 0 where there is none. */
    .balign 16
    .globl vector_stubs
vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
    push $0
    .endif
    push $vector
    jmp vector_common
    .set vector, vector + 1
    .endr

vector_common:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    call trap
    mov %rbp, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

    .bss
    .balign 16
    .skip 16384
stack_top:
    .section .note.GNU-stack, "", @progbits
