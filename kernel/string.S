/*
 * The four functions that freestanding C calls. System V calling convention: RDI, RSI, RDX in, RAX
 * out; RCX, R8 and the arguments are clobbered. The direction flag is clear, always.
 */
    .text

    .global memcpy
memcpy: /* (to, from, n) */
    movq %rdi, %rax
copy_up:
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret

    .global memmove
memmove: /* (to, from, n) */
    movq %rdi, %rax
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx /* unsigned: `to` lies within [from, from + n) */
    jae copy_up
    leaq -1(%rdi, %rdx), %rdi
    leaq -1(%rsi, %rdx), %rsi
    movq %rdx, %rcx
    std
    rep movsb
    cld
    ret

    .global memset
memset: /* (to, value, n) */
    movq %rdi, %r8
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret

    .global memcmp
memcmp: /* (a, b, n) */
    xorl %eax, %eax
    movq %rdx, %rcx
    testq %rcx, %rcx
    jz 1f
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %ecx
    subl %ecx, %eax
1:  ret

    .section .note.GNU-stack, "", @progbits
