/* Bits of control registers and numbers of MSRs: Intel SDM volume 3, "Control Registers", and
   volume 4, "Model-Specific Registers". */
#pragma once

#define CR0_PE (1ull << 0)
#define CR0_MP (1ull << 1)
#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR0_ET (1ull << 4)
#define CR0_NE (1ull << 5)
#define CR0_WP (1ull << 16)
#define CR0_AM (1ull << 18)
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR0_PG (1ull << 31)

#define CR4_VME        (1ull << 0)
#define CR4_PVI        (1ull << 1)
#define CR4_TSD        (1ull << 2)
#define CR4_DE         (1ull << 3)
#define CR4_PSE        (1ull << 4)
#define CR4_PAE        (1ull << 5)
#define CR4_MCE        (1ull << 6)
#define CR4_PGE        (1ull << 7)
#define CR4_PCE        (1ull << 8)
#define CR4_OSFXSR     (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_UMIP       (1ull << 11)
#define CR4_VMXE       (1ull << 13)
#define CR4_FSGSBASE   (1ull << 16)
#define CR4_PCIDE      (1ull << 17)
#define CR4_OSXSAVE    (1ull << 18)
#define CR4_SMEP       (1ull << 20)
#define CR4_SMAP       (1ull << 21)

#define EFER_SCE    (1ull << 0)
#define EFER_LME    (1ull << 8)
#define EFER_LMA    (1ull << 10)
#define EFER_NXE    (1ull << 11)
#define EFER_SVME   (1ull << 12)
#define EFER_AIBRSE (1ull << 21) /* automatic IBRS */

#define RFLAGS_FIXED (1ull << 1)
#define RFLAGS_TF    (1ull << 8)
#define RFLAGS_IF    (1ull << 9)
#define RFLAGS_RF    (1ull << 16)

#define DR6_RESET       0xffff0ff0ull
#define DR6_BREAKPOINTS 0xfull /* which of them; what else is set stays until it is cleared */
#define DR6_BS          (1ull << 14)
#define DR6_CAUSES      0xe00full
#define DR7_GD          (1ull << 13)

#define XCR0_X87    (1ull << 0)
#define XCR0_SSE    (1ull << 1)
#define XCR0_AVX    (1ull << 2)
#define XCR0_AVX512 (7ull << 5)

#define MSR_IA32_TSC                0x10
#define MSR_IA32_PLATFORM_ID        0x17
#define MSR_IA32_APIC_BASE          0x1b
#define MSR_IA32_FEATURE_CONTROL    0x3a
#define MSR_IA32_PRED_CMD           0x49
#define MSR_IA32_BIOS_SIGN_ID       0x8b
#define MSR_IA32_MTRRCAP            0xfe
#define MSR_IA32_FLUSH_CMD          0x10b
#define MSR_IA32_SYSENTER_CS        0x174
#define MSR_IA32_SYSENTER_ESP       0x175
#define MSR_IA32_SYSENTER_EIP       0x176
#define MSR_IA32_MCG_CAP            0x179
#define MSR_IA32_MCG_STATUS         0x17a
#define MSR_IA32_MISC_ENABLE        0x1a0
#define MSR_IA32_DEBUGCTL           0x1d9
#define MSR_IA32_MTRR_PHYSBASE0     0x200
#define MSR_IA32_MTRR_FIX64K        0x250
#define MSR_IA32_MTRR_FIX16K_0      0x258
#define MSR_IA32_MTRR_FIX16K_1      0x259
#define MSR_IA32_MTRR_FIX4K_0       0x268
#define MSR_IA32_MTRR_FIX4K_7       0x26f
#define MSR_IA32_PAT                0x277
#define MSR_IA32_MTRR_DEF_TYPE      0x2ff
#define MSR_IA32_VMX_BASIC          0x480
#define MSR_IA32_VMX_PROCBASED      0x482
#define MSR_IA32_VMX_MISC           0x485
#define MSR_IA32_VMX_CR0_FIXED0     0x486
#define MSR_IA32_VMX_CR0_FIXED1     0x487
#define MSR_IA32_VMX_CR4_FIXED0     0x488
#define MSR_IA32_VMX_CR4_FIXED1     0x489
#define MSR_IA32_VMX_PROCBASED2     0x48b
#define MSR_IA32_VMX_EPT_VPID_CAP   0x48c
#define MSR_IA32_VMX_TRUE_PINBASED  0x48d
#define MSR_IA32_VMX_TRUE_PROCBASED 0x48e
#define MSR_IA32_VMX_TRUE_EXIT      0x48f
#define MSR_IA32_VMX_TRUE_ENTRY     0x490
#define MSR_IA32_TSC_DEADLINE       0x6e0
#define MSR_X2APIC_BASE             0x800
#define MSR_X2APIC_ICR              0x830
#define MSR_X2APIC_SELF_IPI         0x83f
#define MSR_X2APIC_LAST             0x8ff
#define MSR_IA32_PQR_ASSOC          0xc8f      /* class of service: from bit 32 on */
#define MSR_IA32_L3_QOS_MASK        0xc90      /* and up: of each class */
#define MSR_IA32_MBA_DELAY          0xd50      /* and up: IA32_L2_QOS_Ext_BW_Thrtl_n */
#define MSR_KVM_WALL_CLOCK          0x4b564d00 /* Linux Documentation/virt/kvm/x86/msr.rst */
#define MSR_KVM_SYSTEM_TIME         0x4b564d01
#define MSR_KVM_STEAL_TIME          0x4b564d03
#define MSR_EFER                    0xc0000080
#define MSR_STAR                    0xc0000081
#define MSR_LSTAR                   0xc0000082
#define MSR_CSTAR                   0xc0000083
#define MSR_FMASK                   0xc0000084
#define MSR_FS_BASE                 0xc0000100
#define MSR_GS_BASE                 0xc0000101
#define MSR_KERNEL_GS_BASE          0xc0000102
#define MSR_TSC_AUX                 0xc0000103

#define MSR_PERF_CTL0      0xc0010000
#define MSR_PERF_CTR3      0xc0010007
#define MSR_SYSCFG         0xc0010010
#define MSR_HWCR           0xc0010015
#define MSR_NB_CFG         0xc001001f
#define MSR_VM_CR          0xc0010114
#define MSR_VM_HSAVE_PA    0xc0010117
#define HWCR_TSC_INVARIANT (1ull << 24)
#define NB_CFG_EXTENDED    (1ull << 46)

#define PAT_RESET 0x0007040600070406ull /* entry 0 is WB, entry 3 (both cache bits) is UC */

#define FEATURE_CONTROL_LOCKED (1ull << 0)
#define FEATURE_CONTROL_VMXON  (1ull << 2) /* outside SMX */

#define MISC_ENABLE_FAST_STRINGS (1ull << 0)

#define APIC_BASE_BSP    (1ull << 8)
#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ENABLE (1ull << 11)

/* Exception vectors, and those that push an error code (#CP is for guests with CET: none). */
#define VECTOR_DB 1
#define VECTOR_NM 7
#define VECTOR_DF 8
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_UD 6
#define VECTOR_AC 17
#define VECTOR_MC 18
#define VECTORS_WITH_ERROR                                                                         \
    (1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17)

/* CPUID: SDM volume 2, "CPUID". */
#define CPUID_ADDRESS_SIZES      0x80000008u
#define CPUID_1_ECX_VMX          (1u << 5)
#define CPUID_1_ECX_PCID         (1u << 17)
#define CPUID_1_ECX_X2APIC       (1u << 21)
#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID_1_ECX_RDRAND       (1u << 30)
#define CPUID_1_ECX_HYPERVISOR   (1u << 31)
#define CPUID_1_EDX_APIC         (1u << 9)
#define CPUID_ALLOCATION         0x10u /* subleaf 1: L3, 3: memory bandwidth */
#define ALLOCATION_EBX_L3        (1u << 1)
#define ALLOCATION_EBX_MEMORY    (1u << 3)
#define ALLOCATION_ECX_LINEAR    (1u << 2)
#define CPUID_7_EBX_FSGSBASE     (1u << 0)
#define CPUID_7_EBX_ALLOCATION   (1u << 15) /* of cache and memory bandwidth: CPUID_ALLOCATION */
#define CPUID_7_ECX_UMIP         (1u << 2)
#define CPUID_7_EBX_SMEP         (1u << 7)
#define CPUID_7_EBX_SMAP         (1u << 20)
#define CPUID_EXT_1_EDX_NX       (1u << 20)
#define CPUID_EXT_1_EDX_PAGE_1G  (1u << 26)
#define CPUID_EXT_1_EDX_RDTSCP   (1u << 27)
