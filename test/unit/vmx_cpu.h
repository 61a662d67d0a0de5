/* VT-x as machine.h needs it. */
#pragma once

static u8 *vmcs_of_cpu[HOST_CPUS];
#define vmcs_current (vmcs_of_cpu[now])
static u8 vmcs_owner[ARENA_SIZE / PAGE_SIZE]; /* the CPU on which it is active, + 1 */
static unsigned host_flushes;

#define ALL_OPTIONAL (~0ull << 32) /* of a capability MSR: nothing is forced, all is allowed */

static u64 backend_rdmsr(u32 msr) {
    switch (msr) {
    case MSR_IA32_VMX_BASIC: return 1ull << 55 | 6ull << 50 | 0x1000ull << 32 | 17;
    case MSR_IA32_VMX_PROCBASED:
    case MSR_IA32_VMX_TRUE_PINBASED:
    case MSR_IA32_VMX_TRUE_PROCBASED:
    case MSR_IA32_VMX_TRUE_EXIT:
    case MSR_IA32_VMX_TRUE_ENTRY:
    case MSR_IA32_VMX_PROCBASED2: return ALL_OPTIONAL;
    case MSR_IA32_VMX_EPT_VPID_CAP: return ~0ull;
    case MSR_IA32_VMX_CR0_FIXED0: return CR0_PE | CR0_NE | CR0_PG;
    case MSR_IA32_VMX_CR0_FIXED1: return ~0u;
    case MSR_IA32_VMX_CR4_FIXED0: return CR4_VMXE;
    case MSR_IA32_VMX_CR4_FIXED1: return 0x3727ff;
    case MSR_IA32_FEATURE_CONTROL: return FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON;
    default: return 0;
    }
}

/* A VMCS is its own page: fields by width, type and index, as their encoding has them. */
static u64 *field_at(u64 encoding) {
    if (!vmcs_current || encoding & ~0x6c3eull) panic("access to VMCS field 0x%lx", encoding);
    u64 group = (encoding >> 13 & 3) * 4 + (encoding >> 10 & 3);
    return (u64 *)vmcs_current + group * 32 + (encoding >> 1 & 31);
}
static bool host_vmread(u64 encoding, u64 *value) {
    *value = *field_at(encoding);
    return true;
}
static bool host_vmwrite(u64 encoding, u64 value) {
    *field_at(encoding) = value;
    return true;
}
static void own_vmcs(struct hpa region, u8 owner) {
    u8 *is = &vmcs_owner[region.v / PAGE_SIZE];
    if (*is && *is != now + 1) panic("a VMCS that is active on another CPU");
    *is = owner;
}
static bool host_vmptrld(const struct hpa *region) {
    own_vmcs(*region, (u8)(now + 1));
    vmcs_current = pool_pointer(*region);
    return true;
}
static bool host_vmclear(const struct hpa *region) {
    own_vmcs(*region, 0);
    if (vmcs_current == pool_pointer(*region)) vmcs_current = NULL;
    return true;
}
static bool host_flush(u64 type, struct invalidation what) {
    (void)type, (void)what;
    host_flushes++;
    return true;
}
#define vmread(e, v)          host_vmread(e, v)
#define vmwrite(e, v)         host_vmwrite(e, v)
#define vmxon(r)              ((void)(r), true)
#define vmclear(r)            host_vmclear(r)
#define vmptrld(r)            host_vmptrld(r)
#define invept                host_flush
#define invvpid               host_flush
#define nmi_unblock()         ((void)0)
#define cpu_take_interrupts() ((void)0)

void vmx_exited(void) {}

#include "guest.h"

/* --- an entry: what the CPU would check, and refuse with VMfail or a failed entry --- */

static const char *entry_wrong(struct vcpu *vcpu) {
    u32 event = vmread32(VMCS_ENTRY_EVENT), error = vmread32(VMCS_ENTRY_ERROR_CODE);
    u32 blocking = vmread32(VMCS_GUEST_BLOCKING), vector = EVENT_VECTOR(event);
    bool pe = vmread64(VMCS_GUEST_CR0) & CR0_PE;
    if (vcpu != host_cpu.current || (!vcpu_runnable(vcpu) && !is_called()))
        return "it is not to run";
    if (vmcs_current != vcpu->vmcs || host_cpu.loaded != vcpu) return "its VMCS is not current";
    if (vcpu->domain->role == ROLE_VM && host_cpu.unswitched != vcpu)
        return "its registers are not loaded";
    if (vmread32(VMCS_PIN_CONTROLS) & PIN_POSTED &&
        (!(vmread32(VMCS_SECONDARY_CONTROLS) & SECONDARY_VIRTUAL_INTERRUPTS) ||
         vmread64(VMCS_POSTED) != hpa_of(&vcpu->posted).v || vmread64(VMCS_POSTED) & 63))
        return "its posted interrupts are wrong";
    if (vcpu->home != this_cpu() || vmread64(VMCS_HOST_GS_BASE) != (u64)this_cpu())
        return "it is another CPU's";
    for (unsigned i = 0; i < HOST_CPUS; i++)
        if (i != now && host[i].runs == vcpu) return "it runs on two CPUs";
    if ((blocking & 3) == 3 || blocking >> 4) return "blocking by STI and by MOV SS";
    if (vmread64(VMCS_GUEST_DR7) >> 32) return "DR7";
    bool lma = vmread64(VMCS_GUEST_EFER) & EFER_LMA;
    if (lma != !!(vmread32(VMCS_ENTRY_CONTROLS) & ENTRY_IA32E))
        return "the entry control does not follow EFER.LMA";
    bool set = vmread64(VMCS_GUEST_CR0); /* else VCPU_SET was left out: the entry fails */
    if (set && ((vmread64(VMCS_GUEST_CR4) & (CR4_VMXE | CR4_MCE)) != (CR4_VMXE | CR4_MCE) ||
                (vmread64(VMCS_GUEST_CR0) & (CR0_NE | CR0_CD | CR0_NW)) != CR0_NE))
        return "control registers that a guest must not have";
    if (!(event & EVENT_VALID)) return NULL;
    bool pushes = (0x27d00u >> (vector & 31) & 1) && EVENT_TYPE(event) == 3 && pe;
    if (EVENT_TYPE(event) == 3 && (vector > 31 || pushes != !!(event & EVENT_HAS_ERROR)))
        return "an exception with or without its error code";
    if (EVENT_TYPE(event) == 1 || EVENT_TYPE(event) == 7) return "an event of a reserved type";
    if (event & EVENT_HAS_ERROR && EVENT_TYPE(event) != 3) return "an error code of no exception";
    if (EVENT_TYPE(event) >= 4 && vmread32(VMCS_ENTRY_LENGTH) - 1 > 14)
        return "a software interrupt without the length of its instruction";
    if (event & EVENT_HAS_ERROR && error >> 15) return "an error code of more than 15 bits";
    if (event & 0x7ffff000) return "reserved bits of the event";
    if (EVENT_TYPE(event) == 0 && (!(vmread64(VMCS_GUEST_RFLAGS) & RFLAGS_IF) || blocking & 3))
        return "an interrupt that the guest blocks";
    if (EVENT_TYPE(event) == 2 && (vector != 2 || blocking & 0xb))
        return "an NMI that the guest blocks";
    return NULL;
}

void guest_enter(struct vcpu *vcpu) {
    const char *wrong = entry_wrong(vcpu);
    if (wrong) panic("entry of domain %u: %s", vcpu->domain->id, wrong);
    entered = vcpu;
    entered_event = vmread32(VMCS_ENTRY_EVENT);
    if ((entered_event & EVENT_VALID) && EVENT_TYPE(entered_event) == 2)
        vmwrite32(VMCS_GUEST_BLOCKING, vmread32(VMCS_GUEST_BLOCKING) | BLOCKING_NMI);
    vmwrite32(VMCS_ENTRY_EVENT, entered_event & ~EVENT_VALID);
    longjmp(entered_return, 1);
}

/* --- exits --- */

static void next_begin(struct vcpu *vcpu, u32 reason) {
    (void)vcpu;
    vmwrite32(VMCS_EXIT_REASON, reason);
    vmwrite32(VMCS_EXIT_LENGTH, 3);
}
#define backend_exited exit_handle

/* Another CPU's interrupt or NMI; the exit reason. */
static u32 next_poked(bool nmi) {
    vmwrite32(VMCS_VECTORING_EVENT, 0);
    vmwrite32(VMCS_EXIT_EVENT,
              EVENT_VALID | (nmi ? EVENT_TYPE_NMI | 2u : EVENT_TYPE_INTERRUPT | POKE_VECTOR));
    return nmi ? REASON_EXCEPTION : REASON_EXTERNAL_INTERRUPT;
}

/* The next exit is at this page, or at this port. */
static inline void next_page(u64 at, u32 access) {
    vmwrite32(VMCS_VECTORING_EVENT, 0);
    vmwrite64(VMCS_EXIT_QUALIFICATION, access);
    vmwrite64(VMCS_GUEST_PHYSICAL, at);
}
static inline void next_out8(u16 port) { vmwrite64(VMCS_EXIT_QUALIFICATION, (u64)port << 16); }

/* ... or a MOV to CR4 from RBX. */
static inline void next_cr4_write(void) { vmwrite64(VMCS_EXIT_QUALIFICATION, 3u << 8 | 4); }

/* The next exit, of a VM, is one of these as a hostile guest may cause it; `cut_short`: what the
   last entry has delivered is under way. */
static inline void next_hostile(u32 reason, bool cut_short, u64 at) {
    vmwrite32(VMCS_VECTORING_EVENT, cut_short ? entered_event : 0);
    if (!cut_short) vmwrite64(VMCS_GUEST_RFLAGS, (unit_random() & RFLAGS_IF) | RFLAGS_FIXED);
    if (reason != REASON_INTERRUPT_WINDOW && !cut_short) {
        static const u32 blocking[] = {0, 0, BLOCKING_STI, BLOCKING_MOV_SS, BLOCKING_NMI};
        vmwrite32(VMCS_GUEST_BLOCKING, blocking[unit_random() % ARRAY_SIZE(blocking)]);
    }
    if (reason == REASON_EXCEPTION) {
        static const u32 events[] = {EVENT_TYPE_NMI | 2, EVENT_TYPE_EXCEPTION | VECTOR_DB,
                                     EVENT_TYPE_EXCEPTION | EVENT_HAS_ERROR | VECTOR_AC};
        vmwrite32(VMCS_EXIT_EVENT, EVENT_VALID | events[unit_random() % ARRAY_SIZE(events)] |
                                       (unit_random() % 4 ? 0 : EVENT_NMI_UNBLOCKED));
        vmwrite32(VMCS_EXIT_ERROR_CODE, 0);
    }
    u64 q = unit_random();
    if (reason == REASON_CR_ACCESS) q = (q & 0xffff3f30) | (u64[]){0, 4, 8}[unit_random() % 3];
    if (reason == REASON_IO) q = (q & ~7ull) | (u64[]){0, 1, 3}[unit_random() % 3];
    vmwrite64(VMCS_EXIT_QUALIFICATION, q);
    vmwrite64(VMCS_GUEST_PHYSICAL, at);
}

#include "../../kernel/vmx.c"
