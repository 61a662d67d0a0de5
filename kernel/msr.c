/* The MSRs that a VM may read and write with our help; others pass (msrs_pass) or fault. */
#include "msr.h"

#include "domain.h"
#include "guest.h"
#include "regs.h"
#include "vcpu.h"
#include "x86.h"

#define MICROCODE_REVISION  (1ull << 32)
#define MTRR_CAP            (MTRR_VARIABLE | 1ull << 8 | 1ull << 10) /* fixed ranges, write-combining */
#define MTRR_DEF_TYPE_KNOWN 0xcffull

/* The CPU switches them, or xstate.c does, and checks what is written to them. */
void msrs_pass(u8 *bitmap, void (*allow)(u8 *bitmap, u32 msr, u32 rights)) {
    static const u32 passed[] = {MSR_IA32_SYSENTER_CS,
                                 MSR_IA32_SYSENTER_ESP,
                                 MSR_IA32_SYSENTER_EIP,
                                 MSR_IA32_PAT,
                                 MSR_STAR,
                                 MSR_LSTAR,
                                 MSR_CSTAR,
                                 MSR_FMASK,
                                 MSR_FS_BASE,
                                 MSR_GS_BASE,
                                 MSR_KERNEL_GS_BASE,
                                 MSR_TSC_AUX};
    bool rdtscp = cpuid(0x80000001, 0).edx & CPUID_EXT_1_EDX_RDTSCP;
    for (unsigned i = 0; i < ARRAY_SIZE(passed) - !rdtscp; i++)
        allow(bitmap, passed[i], RIGHT_READ | RIGHT_WRITE);
    allow(bitmap, MSR_IA32_TSC, RIGHT_READ);
}

static COLD bool beyond_memory(u64 address) {
    return address >> (cpuid(CPUID_ADDRESS_SIZES, 0).eax & 0x3f);
}

/* A VM's memory is write-back whatever these say (ept.c): they are stored for it to read. */
static u64 *mtrr_register(struct mtrrs *mtrrs, u32 msr) {
    if (msr == MSR_IA32_MTRR_DEF_TYPE) return &mtrrs->def_type;
    if (msr >= MSR_IA32_MTRR_PHYSBASE0 && msr < MSR_IA32_MTRR_PHYSBASE0 + 2 * MTRR_VARIABLE)
        return &mtrrs->variable[msr - MSR_IA32_MTRR_PHYSBASE0];
    if (msr == MSR_IA32_MTRR_FIX64K) return &mtrrs->fixed[0];
    if (msr == MSR_IA32_MTRR_FIX16K_0 || msr == MSR_IA32_MTRR_FIX16K_1)
        return &mtrrs->fixed[1 + msr - MSR_IA32_MTRR_FIX16K_0];
    if (msr >= MSR_IA32_MTRR_FIX4K_0 && msr <= MSR_IA32_MTRR_FIX4K_7)
        return &mtrrs->fixed[3 + msr - MSR_IA32_MTRR_FIX4K_0];
    return NULL;
}

static bool memory_type_valid(u64 type) { return type <= 1 || (type >= 4 && type <= 6); }

static bool mtrr_valid(u32 msr, u64 value) {
    if (msr == MSR_IA32_MTRR_DEF_TYPE)
        return !(value & ~MTRR_DEF_TYPE_KNOWN) && memory_type_valid(value & 0xff);
    if (msr < MSR_IA32_MTRR_FIX64K) { /* base: type; mask: valid bit; beyond MAXPHYADDR nothing */
        if (beyond_memory(value)) return false;
        return msr & 1 ? !(value & 0x7ff) : !(value & 0xf00) && memory_type_valid(value & 0xff);
    }
    for (unsigned i = 0; i < 64; i += 8)
        if (!memory_type_valid(value >> i & 0xff)) return false;
    return true;
}

static COLD bool mtrr_read(struct mtrrs *mtrrs, u32 msr, u64 *value) {
    const u64 *mtrr = mtrr_register(mtrrs, msr);
    if (mtrr) *value = *mtrr;
    return mtrr;
}

static COLD bool mtrr_write(struct mtrrs *mtrrs, u32 msr, u64 value) {
    u64 *mtrr = mtrr_register(mtrrs, msr);
    if (!mtrr || !mtrr_valid(msr, value)) return false;
    *mtrr = value;
    return true;
}

bool msr_read(struct vcpu *vcpu, u32 msr, u64 *value) {
    if (msr >= MSR_X2APIC_BASE && msr <= MSR_X2APIC_LAST) return vapic_read(vcpu, msr, value);
    switch (msr) {
    case MSR_EFER: *value = guest_efer(vcpu); return true;
    case MSR_IA32_APIC_BASE: *value = vcpu->apic.base; return true;
    case MSR_IA32_TSC_DEADLINE: *value = vapic_deadline_read(&vcpu->apic); return true;
    case MSR_IA32_MTRRCAP: *value = MTRR_CAP; return true;
    case MSR_IA32_MISC_ENABLE: *value = vcpu->misc_enable; return true;
    case MSR_IA32_BIOS_SIGN_ID: *value = MICROCODE_REVISION; return true;
    case MSR_IA32_FEATURE_CONTROL: *value = FEATURE_CONTROL_LOCKED; return true;
    case MSR_KVM_SYSTEM_TIME: *value = vcpu->clock; return true;
    case MSR_KVM_STEAL_TIME: *value = vcpu->steal; return true;
    case MSR_KVM_WALL_CLOCK:
    case MSR_IA32_PLATFORM_ID:
    case MSR_IA32_MCG_CAP: /* no machine-check banks */
    case MSR_IA32_MCG_STATUS:
    case MSR_IA32_DEBUGCTL: *value = 0; return true;
    default: return mtrr_read(&vcpu->mtrrs, msr, value) || guest_msr_read(msr, value);
    }
}

/* The device model knows the time, and may write the guest's memory. */
static void forward_clock(struct vcpu *vcpu, u32 msr, u64 value) {
    vcpu->exit->port = msr - MSR_KVM_WALL_CLOCK;
    vcpu->exit->value = value;
    vcpu->exit->gpa = vcpu->tsc_offset - vcpu->domain->tsc_offset;
    vcpu_forward(vcpu, EXIT_CLOCK);
}

bool msr_write(struct vcpu *vcpu, u32 msr, u64 value) {
    if (msr >= MSR_X2APIC_BASE && msr <= MSR_X2APIC_LAST) return vapic_write(vcpu, msr, value);
    switch (msr) {
    case MSR_EFER: return guest_efer_write(vcpu, value);
    case MSR_IA32_APIC_BASE: return !beyond_memory(value) && vapic_base_write(vcpu, value);
    case MSR_IA32_TSC: /* the guest's own view moves, and its timer with it */
        vapic_tsc_write(vcpu, value);
        if (vcpu->clock & 1) forward_clock(vcpu, MSR_KVM_SYSTEM_TIME, vcpu->clock);
        return true;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_WALL_CLOCK:
        if (msr == MSR_KVM_SYSTEM_TIME) vcpu->clock = value;
        forward_clock(vcpu, msr, value);
        return true;
    case MSR_KVM_STEAL_TIME:
        if (value & STEAL_TIME_RESERVED) return false;
        vcpu->steal = value;
        vcpu->stolen_told = ~0ull;
        return true;
    case MSR_IA32_MISC_ENABLE:
        if (value & ~MISC_ENABLE_KNOWN) return false;
        vcpu->misc_enable = value;
        return true;
    case MSR_IA32_BIOS_SIGN_ID: return value == 0; /* precedes a CPUID that fills it */
    case MSR_IA32_MCG_STATUS:
    case MSR_IA32_DEBUGCTL: return value == 0;
    default: return mtrr_write(&vcpu->mtrrs, msr, value) || guest_msr_write(msr);
    }
}
