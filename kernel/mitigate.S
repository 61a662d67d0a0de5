/* Takes from the predictors of this CPU what was learned in a guest. */
#include "regs.h"

#define IBPB          0 /* bits of EDI, asserted in mitigate.c */
#define RSB           1
#define BHB           2
#define RSB_ENTRIES   32
#define BRANCHES      200 /* taken ones, more than any CPU's history has */

/* clear_predictors: EDI = what. Clobbers RAX, RCX, RDX, flags. It is called at exits, with a guest's
   return predictions: the one RET that they may steer comes behind their end. */
    .text
    .globl clear_predictors
    .type clear_predictors, @function
clear_predictors:
    bt $IBPB, %edi
    jnc 1f
    mov $MSR_IA32_PRED_CMD, %ecx
    mov $1, %eax
    xor %edx, %edx
    wrmsr
1:  bt $RSB, %edi
    jnc 5f
    mov $(RSB_ENTRIES / 2), %eax
2:  call 3f                     /* calls that never return */
    int3
3:  call 4f
    int3
4:  dec %eax
    jnz 2b
    add $(8 * RSB_ENTRIES), %rsp
5:  bt $BHB, %edi
    jnc 8f
    mov $(BRANCHES / 2), %eax
6:  jmp 7f
    int3
7:  dec %eax
    jnz 6b
8:  lfence                      /* nothing behind it goes by what was there before */
    ret
    .size clear_predictors, . - clear_predictors

    .section .note.GNU-stack, "", @progbits
