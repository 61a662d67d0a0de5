/* The VMCB: AMD APM volume 2, appendix "Layout of VMCB". */
#pragma once

#include "types.h"

struct vmcb_segment {
    u16 selector;
    u16 attributes; /* of VMX: bits 7:0, and 15:12 as 11:8; unusable: not present */
    u32 limit;
    u64 base;
};

#define ATTRIBUTE_PRESENT (1u << 7)
#define ATTRIBUTE_LONG    (1u << 9)
#define ATTRIBUTE_32      (1u << 10)

struct vmcb {
    u16 cr_reads, cr_writes, dr_reads, dr_writes; /* 0x000: intercepts */
    u32 exceptions;
    u32 intercepts[3];
    u32 reserved1[9];
    u16 pause_threshold, pause_count;
    u64 io_bitmap, msr_bitmap; /* 0x040 */
    u64 tsc_offset;
    u32 asid, tlb_control;
    u64 interrupt; /* 0x060: V_... */
    u64 shadow;    /* bit 0: STI or MOV SS holds interrupts off */
    u64 exit_code, exit_info1, exit_info2;
    u64 vectoring; /* what the exit cut short; the upper half: its error code */
    u64 nested;    /* 0x090 */
    u64 reserved2[2];
    u64 event; /* to inject; the upper half: its error code */
    u64 nested_cr3, lbr;
    u32 clean, reserved3; /* 0x0c0: CLEAN_... that has not changed since the last exit */
    u64 next_rip;
    u8 instruction_length, instruction[15];
    u8 reserved4[0x400 - 0xe0];
    struct vmcb_segment segments[10]; /* 0x400: ES CS SS DS FS GS GDTR LDTR IDTR TR */
    u8 reserved5[0x4cb - 0x4a0], cpl, reserved6[4];
    u64 efer;
    u8 reserved7[0x548 - 0x4d8];
    u64 cr4, cr3, cr0, dr7, dr6, rflags, rip; /* 0x548 */
    u8 reserved8[0x5d8 - 0x580];
    u64 rsp, cet[3], rax;
    u64 star, lstar, cstar, fmask, kernel_gs_base; /* 0x600 */
    u64 sysenter_cs, sysenter_esp, sysenter_eip, cr2;
    u64 reserved9[4], pat;
};
#define AT(field, offset) _Static_assert(__builtin_offsetof(struct vmcb, field) == (offset), #field)
AT(pause_threshold, 0x3c);
AT(interrupt, 0x60);
AT(nested, 0x90);
AT(event, 0xa8);
AT(clean, 0xc0);
AT(segments, 0x400);
AT(efer, 0x4d0);
AT(cr4, 0x548);
AT(rsp, 0x5d8);
AT(rax, 0x5f8);
AT(cr2, 0x640);
AT(pat, 0x668);
#undef AT

/* intercepts[0] to [2], by their exit codes from EXIT_INTR on */
#define INTERCEPT(code) (1u << ((code)-0x60) % 32)

#define INTERCEPT_CR0 (1u << 0) /* cr_reads, cr_writes */
#define INTERCEPT_CR4 (1u << 4)

/* interrupt */
#define V_TPR          0xfull /* as CR8 */
#define V_IRQ          (1ull << 8)
#define V_PRIORITY(n)  ((u64)(n) << 16)
#define V_IGNORE_TPR   (1ull << 20)
#define V_INTR_MASKING (1ull << 24) /* IF and CR8 are the guest's; the host's IF is for exits */

#define CLEAN_INTERCEPTS (1u << 0) /* and the TSC offset */
#define CLEAN_BITMAPS    (1u << 1)
#define CLEAN_ASID       (1u << 2)
#define CLEAN_INTERRUPT  (1u << 3)
#define CLEAN_CR         (1u << 5) /* and EFER */
#define CLEAN_DR         (1u << 6)
#define CLEAN_CR2        (1u << 9)
#define CLEAN_ALL        0x7ffu

#define TLB_FLUSH_ALL 1u

/* Exit codes: APM volume 2, appendix "SVM Intercept Exit Codes". */
enum {
    SVM_READ_CR4 = 0x04,
    SVM_WRITE_CR0 = 0x10,
    SVM_WRITE_CR4 = 0x14,
    SVM_EXCEPTION = 0x40, /* + vector */
    SVM_INTR = 0x60,
    SVM_NMI = 0x61,
    SVM_INIT = 0x63,
    SVM_VINTR = 0x64,
    SVM_RDPMC = 0x6f,
    SVM_CPUID = 0x72,
    SVM_IRET = 0x74,
    SVM_INVD = 0x76,
    SVM_PAUSE = 0x77,
    SVM_HLT = 0x78,
    SVM_INVLPGA = 0x7a,
    SVM_IO = 0x7b,
    SVM_MSR = 0x7c,
    SVM_SHUTDOWN = 0x7f,
    SVM_VMRUN = 0x80,
    SVM_VMMCALL = 0x81,
    SVM_VMLOAD = 0x82,
    SVM_VMSAVE = 0x83,
    SVM_STGI = 0x84,
    SVM_CLGI = 0x85,
    SVM_SKINIT = 0x86,
    SVM_WBINVD = 0x89,
    SVM_MONITOR = 0x8a,
    SVM_MWAIT = 0x8b,
    SVM_MWAIT_ARMED = 0x8c,
    SVM_XSETBV = 0x8d,
    SVM_RDPRU = 0x8e,
    SVM_CODES = 0x90,
    SVM_PAGE = 0x400,
};
