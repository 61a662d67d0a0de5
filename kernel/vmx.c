/* The VT-x backend: negotiation of controls, VMXON, the VMCS of each vCPU, guest state. */
#include "guest.h"

#include "cpu.h"
#include "domain.h"
#include "frame.h"
#include "log.h"
#include "mitigate.h"
#include "msr.h"
#include "paging.h"
#include "regs.h"
#include "smp.h"
#include "trap.h"
#include "vcpu.h"
#include "vmcs.h"
#include "x86.h"

/* What was negotiated. */
static struct {
    u32 revision;
    u32 pin, primary_vm, primary_component, secondary_vm, secondary_component, exit, entry;
    u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    u32 features;
    u32 secondary_x2apic; /* APIC virtualization in x2APIC mode */
    u32 pin_x2apic;
    u64 spec_ctrl; /* set for good, since no guest may write the MSR */
} vmx;

bool virt_timer;
u8 vmx_timer_shift;
bool virt_apic, virt_posted;

static u8 *io_bitmap_deny; /* two pages of ones */
static u8 *msr_bitmap_vm, *msr_bitmap_x2apic, *msr_bitmap_component;

/* --- negotiation --- */

#define PROCBASED_SECONDARY     (1ull << 63) /* allowed-1 half of IA32_VMX_PROCBASED_CTLS */
#define PROCBASED2_EPT          (1ull << 33) /* and of IA32_VMX_PROCBASED_CTLS2 */
#define PROCBASED2_VPID         (1ull << 37)
#define PROCBASED2_UNRESTRICTED (1ull << 39)

static u64 secondary_controls(void) {
    if (!(rdmsr(MSR_IA32_VMX_PROCBASED) & PROCBASED_SECONDARY)) return 0;
    return rdmsr(MSR_IA32_VMX_PROCBASED2);
}

/* A firmware that left the register unlocked leaves the choice to us. */
static void vmx_unlock(void) {
    u64 control = rdmsr(MSR_IA32_FEATURE_CONTROL);
    if (!(control & FEATURE_CONTROL_LOCKED)) {
        wrmsr(MSR_IA32_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON);
        return;
    }
    if (!(control & FEATURE_CONTROL_VMXON))
        refuse("VT-x is disabled by firmware: IA32_FEATURE_CONTROL is locked without VMXON. "
               "Enable \"Intel Virtualization Technology\" in the firmware setup.");
}

static void require(u64 present, const char *missing) {
    if (!present) refuse("this CPU's VT-x has no %s.", missing);
}

void virt_require(void) {
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_VMX))
        refuse("this CPU has no VT-x (CPUID.1:ECX.VMX is 0) and no AMD-V, or firmware hides it.");
    vmx_unlock();
    u64 controls = secondary_controls();
    require(controls & PROCBASED2_EPT, "EPT (second-level page tables)");
    require(controls & PROCBASED2_UNRESTRICTED, "unrestricted guest");
    require(controls & PROCBASED2_VPID, "VPID (tagged TLB)");
}

struct wish {
    const char *name;
    u32 bit;
    u32 feature; /* 0: needed; else what it is called in `features` */
};

static const struct wish pin_wishes[] = {
    {"external-interrupt exiting", PIN_EXTERNAL_INTERRUPT, 0},
    {"NMI exiting", PIN_NMI, 0},
    {"virtual NMIs", PIN_VIRTUAL_NMI, 0},
    {"VMX preemption timer", PIN_PREEMPTION_TIMER, FEATURE_PREEMPTION_TIMER},
};
static const struct wish primary_wishes[] = {
    {"TSC offsetting", PRIMARY_TSC_OFFSET, 0}, {"HLT exiting", PRIMARY_HLT, 0},
    {"MWAIT exiting", PRIMARY_MWAIT, 0},       {"RDPMC exiting", PRIMARY_RDPMC, 0},
    {"CR8-load exiting", PRIMARY_CR8_LOAD, 0}, {"CR8-store exiting", PRIMARY_CR8_STORE, 0},
    {"I/O bitmaps", PRIMARY_IO_BITMAPS, 0},    {"MSR bitmaps", PRIMARY_MSR_BITMAPS, 0},
    {"MONITOR exiting", PRIMARY_MONITOR, 0},   {"secondary controls", PRIMARY_SECONDARY, 0},
};
static const struct wish secondary_wishes[] = {
    {"EPT", SECONDARY_EPT, 0},
    {"VPID", SECONDARY_VPID, 0},
    {"unrestricted guest", SECONDARY_UNRESTRICTED, 0},
    {"WBINVD exiting", SECONDARY_WBINVD, 0},
};
static const struct wish exit_wishes[] = {
    {"saving of debug controls", EXIT_SAVE_DEBUG, 0},
    {"64-bit host", EXIT_HOST_64, 0},
    {"acknowledge interrupt on exit", EXIT_ACK_INTERRUPT, 0},
    {"saving of PAT", EXIT_SAVE_PAT, 0},
    {"loading of PAT on exit", EXIT_LOAD_PAT, 0},
    {"saving of EFER", EXIT_SAVE_EFER, 0},
    {"loading of EFER on exit", EXIT_LOAD_EFER, 0},
};
static const struct wish entry_wishes[] = {
    {"loading of debug controls", ENTRY_LOAD_DEBUG, 0},
    {"loading of PAT on entry", ENTRY_LOAD_PAT, 0},
    {"loading of EFER on entry", ENTRY_LOAD_EFER, 0},
};
/* A spin loop that lasts longer than this makes room: ticks between two PAUSEs, and of all. */
#define PAUSE_GAP    128
#define PAUSE_WINDOW 4096
#define DR_EXITING   (1u << 23)

/* Bits 31:0 of a capability MSR must be 1, bits 63:32 may be. SDM volume 3, appendix "VMX
   Capability Reporting Facility". */
static u32 negotiate(u32 msr, const struct wish *wishes, unsigned count) {
    u64 capability = rdmsr(msr);
    u32 must = (u32)capability, may = (u32)(capability >> 32);
    u32 chosen = must;
    for (unsigned i = 0; i < count; i++) {
        if (may & wishes[i].bit) {
            chosen |= wishes[i].bit;
            vmx.features |= wishes[i].feature;
        } else if (wishes[i].feature) {
            log_info("VT-x: this CPU has no %s; doing without", wishes[i].name);
        } else {
            refuse("VT-x on this CPU lacks what Plinth needs: %s", wishes[i].name);
        }
    }
    return chosen;
}

/* Secondary controls that are taken where they are: they only let a guest use an instruction. */
static u32 optional(u32 msr, u32 bits) { return (u32)(rdmsr(msr) >> 32) & bits; }

static void negotiate_all(void) {
    u64 basic = rdmsr(MSR_IA32_VMX_BASIC);
    bool true_controls = basic >> 55 & 1;
    if (!true_controls) refuse("VT-x on this CPU lacks what Plinth needs: TRUE control MSRs");
    vmx.revision = (u32)basic & 0x7fffffff;
    if ((basic >> 32 & 0x1fff) > PAGE_SIZE || (basic >> 50 & 15) != 6 || (basic >> 48 & 1))
        refuse("VT-x on this CPU wants a VMCS that is not one write-back page");
    vmx.pin = negotiate(MSR_IA32_VMX_TRUE_PINBASED, pin_wishes, ARRAY_SIZE(pin_wishes));
    vmx.primary_vm =
        negotiate(MSR_IA32_VMX_TRUE_PROCBASED, primary_wishes, ARRAY_SIZE(primary_wishes));
    vmx.primary_component = vmx.primary_vm | optional(MSR_IA32_VMX_TRUE_PROCBASED, DR_EXITING);
    vmx.secondary_component =
        negotiate(MSR_IA32_VMX_PROCBASED2, secondary_wishes, ARRAY_SIZE(secondary_wishes));
    vmx.secondary_vm = vmx.secondary_component |
                       optional(MSR_IA32_VMX_PROCBASED2,
                                SECONDARY_RDTSCP | SECONDARY_INVPCID | SECONDARY_PAUSE_LOOP);
    vmx.exit = negotiate(MSR_IA32_VMX_TRUE_EXIT, exit_wishes, ARRAY_SIZE(exit_wishes));
    vmx.entry = negotiate(MSR_IA32_VMX_TRUE_ENTRY, entry_wishes, ARRAY_SIZE(entry_wishes));
    virt_timer = vmx.features & FEATURE_PREEMPTION_TIMER;
    vmx_timer_shift = rdmsr(MSR_IA32_VMX_MISC) & 31;

    u64 ept = rdmsr(MSR_IA32_VMX_EPT_VPID_CAP);
    const u64 need = 1ull << 6 | 1ull << 14 | 1ull << 16 | 1ull << 20 | 1ull << 25 | 1ull << 26 |
                     1ull << 32 | 1ull << 41 | 1ull << 42;
    if ((ept & need) != need)
        refuse("VT-x on this CPU lacks what Plinth needs: EPT with 4 levels, write-back tables, "
               "2 MiB pages, INVEPT and INVVPID (IA32_VMX_EPT_VPID_CAP is 0x%lx)",
               ept);
    ept_has_1g = ept >> 17 & 1;
    vmx.features |= FEATURE_VPID | FEATURE_UNRESTRICTED | (ept_has_1g ? FEATURE_EPT_1G : 0);
    u32 may2 = (u32)(rdmsr(MSR_IA32_VMX_PROCBASED2) >> 32);
    vmx.features |= may2 & SECONDARY_TSC_SCALING ? FEATURE_TSC_SCALING : 0;
}

/* SDM volume 3, "APIC Virtualization and Virtual Interrupts". In xAPIC mode only the TPR is
   virtual: nobody stays in it. */
static void negotiate_apic(enum apicv apicv) {
    const u32 registers = SECONDARY_X2APIC | SECONDARY_APIC_REGISTERS;
    u32 tpr = optional(MSR_IA32_VMX_TRUE_PROCBASED, PRIMARY_TPR_SHADOW);
    u32 may = optional(MSR_IA32_VMX_PROCBASED2, registers | SECONDARY_VIRTUAL_INTERRUPTS);
    if (apicv == APICV_OFF || !tpr || (may & registers) != registers) return;
    if (apicv == APICV_REGISTERS) may &= ~SECONDARY_VIRTUAL_INTERRUPTS;
    vmx.primary_vm = (vmx.primary_vm | tpr) & ~(PRIMARY_CR8_LOAD | PRIMARY_CR8_STORE);
    vmx.secondary_x2apic = may;
    virt_apic = true;
    vmx.features |= FEATURE_APIC_REGISTERS;
    if (!(may & SECONDARY_VIRTUAL_INTERRUPTS)) return;
    vmx.pin_x2apic = optional(MSR_IA32_VMX_TRUE_PINBASED, PIN_POSTED);
    virt_posted = vmx.pin_x2apic;
    vmx.features |= FEATURE_VIRTUAL_INTERRUPTS | (virt_posted ? FEATURE_POSTED_INTERRUPTS : 0);
}

/* CPUID leaf 7 EDX: SDM volume 2, "CPUID"; IA32_ARCH_CAPABILITIES: volume 4. */
#define CPUID7_MD_CLEAR            (1u << 10)
#define CPUID7_IBRS_IBPB           (1u << 26)
#define CPUID7_L1D_FLUSH           (1u << 28)
#define CPUID7_ARCH_CAPABILITIES   (1u << 29)
#define CPUID72_BHI_CTRL           (1u << 4) /* subleaf 2 */
#define MSR_IA32_SPEC_CTRL         0x48
#define MSR_IA32_ARCH_CAPABILITIES 0x10a
#define ARCH_IBRS_ALL              (1ull << 1)
#define ARCH_MDS_NO                (1ull << 5)
#define ARCH_FB_CLEAR              (1ull << 17)
#define ARCH_RFDS_CLEAR            (1ull << 28)
#define SPEC_CTRL_IBRS             (1ull << 0)
#define SPEC_CTRL_BHI_DIS_S        (1ull << 10)

/* What stands at each exit and entry until the control domain has looked at the CPU. */
static void choose_mitigations(void) {
    u32 edx = cpuid(7, 0).edx, more = cpuid(7, 0).eax >= 2 ? cpuid(7, 2).edx : 0;
    u64 arch = edx & CPUID7_ARCH_CAPABILITIES ? rdmsr(MSR_IA32_ARCH_CAPABILITIES) : 0;
    bool clears = (edx & CPUID7_MD_CLEAR) || (arch & (ARCH_FB_CLEAR | ARCH_RFDS_CLEAR));
    bool vulnerable = !(arch & ARCH_MDS_NO) || (arch & (ARCH_FB_CLEAR | ARCH_RFDS_CLEAR));
    bool controls = edx & CPUID7_IBRS_IBPB;
    if (controls && (arch & ARCH_IBRS_ALL))
        vmx.spec_ctrl = SPEC_CTRL_IBRS | (more & CPUID72_BHI_CTRL ? SPEC_CTRL_BHI_DIS_S : 0);
    vmx.features |= (edx & CPUID7_MD_CLEAR ? FEATURE_MD_CLEAR : 0) | (controls ? FEATURE_IBPB : 0);
    mitigate_init(
        MITIGATION_RSB | MITIGATION_BHB | (controls ? MITIGATION_IBPB : 0) |
            (edx & CPUID7_L1D_FLUSH ? MITIGATION_L1D : 0) | (clears ? MITIGATION_VERW : 0),
        (controls ? MITIGATION_RSB : 0) | (clears && vulnerable ? MITIGATION_VERW : 0), arch);
}

static void *kernel_pages_or_refuse(unsigned order) {
    void *pages = kpage_alloc(order);
    if (!pages) refuse("not enough memory for the VT-x tables");
    return pages;
}

static void msr_allow(u8 *bitmap, u32 msr, u32 rights) {
    u32 bit = msr & 0x1fff, high = msr >= 0xc0000000 ? 1024 : 0;
    if (rights & RIGHT_READ) bitmap[high + bit / 8] &= (u8) ~(1u << bit % 8);
    if (rights & RIGHT_WRITE) bitmap[2048 + high + bit / 8] &= (u8) ~(1u << bit % 8);
}

static void make_bitmaps(void) {
    io_bitmap_deny = kernel_pages_or_refuse(1);
    memset(io_bitmap_deny, 0xff, 2 * PAGE_SIZE);
    msr_bitmap_component = kernel_pages_or_refuse(0);
    memset(msr_bitmap_component, 0xff, PAGE_SIZE);
    msr_bitmap_vm = kernel_pages_or_refuse(0);
    memset(msr_bitmap_vm, 0xff, PAGE_SIZE);
    msrs_pass(msr_bitmap_vm, msr_allow);
    msr_bitmap_x2apic = kernel_pages_or_refuse(0);
    memcpy(msr_bitmap_x2apic, msr_bitmap_vm, PAGE_SIZE);
    bool delivery = vmx.secondary_x2apic & SECONDARY_VIRTUAL_INTERRUPTS;
    vapic_msrs_virtual(msr_bitmap_x2apic, delivery, msr_allow);
}

/* What decided the choice, and must be the same on every CPU. */
static const u32 capability_msrs[] = {
    MSR_IA32_VMX_BASIC,          MSR_IA32_VMX_MISC,         MSR_IA32_VMX_CR0_FIXED0,
    MSR_IA32_VMX_CR0_FIXED1,     MSR_IA32_VMX_CR4_FIXED0,   MSR_IA32_VMX_CR4_FIXED1,
    MSR_IA32_VMX_PROCBASED2,     MSR_IA32_VMX_EPT_VPID_CAP, MSR_IA32_VMX_TRUE_PINBASED,
    MSR_IA32_VMX_TRUE_PROCBASED, MSR_IA32_VMX_TRUE_EXIT,    MSR_IA32_VMX_TRUE_ENTRY,
};
static u64 capabilities[ARRAY_SIZE(capability_msrs)]; /* of the first */

bool virt_cpu_start(void) {
    for (unsigned i = 0; i < ARRAY_SIZE(capability_msrs); i++)
        if (rdmsr(capability_msrs[i]) != capabilities[i]) return false;
    write_cr0((read_cr0() & vmx.cr0_fixed1) | vmx.cr0_fixed0);
    write_cr4((read_cr4() & vmx.cr4_fixed1) | vmx.cr4_fixed0 | CR4_MCE);
    u64 control = rdmsr(MSR_IA32_FEATURE_CONTROL);
    if (!(control & FEATURE_CONTROL_LOCKED)) {
        control |= FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON;
        wrmsr(MSR_IA32_FEATURE_CONTROL, control);
    }
    if (!(control & FEATURE_CONTROL_VMXON)) return false;
    u32 *region = kpage_alloc(0);
    if (!region) return false;
    *region = vmx.revision;
    struct hpa address = hpa_of(region);
    if (!vmxon(&address)) return false;
    if (vmx.spec_ctrl) wrmsr(MSR_IA32_SPEC_CTRL, vmx.spec_ctrl);
    xstate_cpu_init();
    return true;
}

void virt_init(enum apicv apicv) {
    negotiate_all();
    negotiate_apic(apicv);
    choose_mitigations();
    for (unsigned i = 0; i < ARRAY_SIZE(capability_msrs); i++)
        capabilities[i] = rdmsr(capability_msrs[i]);
    vmx.cr0_fixed0 = rdmsr(MSR_IA32_VMX_CR0_FIXED0);
    vmx.cr0_fixed1 = rdmsr(MSR_IA32_VMX_CR0_FIXED1);
    vmx.cr4_fixed0 = rdmsr(MSR_IA32_VMX_CR4_FIXED0);
    vmx.cr4_fixed1 = rdmsr(MSR_IA32_VMX_CR4_FIXED1);
    make_bitmaps();
    xstate_init();
    if (!virt_cpu_start())
        refuse("VMXON failed (IA32_FEATURE_CONTROL is 0x%lx)", rdmsr(MSR_IA32_FEATURE_CONTROL));
}

u32 virt_features(void) { return vmx.features; }

void vmcs_failed(u32 encoding) { panic("VMREAD or VMWRITE of field 0x%x failed", encoding); }

/* --- TLB tags and flushes --- */

#define VPIDS 2048
static u64 vpid_used[VPIDS / 64] = {1}; /* 0 is the host's */

static void invvpid_single(u16 vpid) {
    bool done = invvpid(VMX_SINGLE_CONTEXT, (struct invalidation){vpid, 0});
    assert(done);
}

/* Accessed and dirty bits stay off: with them each walk of a guest's own tables is a write, and
   would copy those of a clone. */
static u64 ept_pointer(const struct ept *ept) {
    return hpa_of(ept->root).v | EPTP_WRITE_BACK | EPTP_WALK_4;
}

static void flush_ept(void *ept) {
    struct invalidation what = {ept_pointer(ept), 0};
    bool done = invept(VMX_SINGLE_CONTEXT, what);
    assert(done);
}

void guest_flush(struct ept *ept) {
    if (ept->root) cpus_call(atomic_load(&ept->cpus), flush_ept, ept);
}

/* What a VPID's last user left in a CPU goes when the new one arrives there. */
static u16 vpid_alloc(void) {
    for (unsigned i = 0; i < ARRAY_SIZE(vpid_used); i++) {
        if (~vpid_used[i] == 0) continue;
        unsigned bit = (unsigned)__builtin_ctzll(~vpid_used[i]);
        vpid_used[i] |= 1ull << bit;
        return (u16)(64 * i + bit);
    }
    return 0;
}

static void vpid_free(u16 vpid) { vpid_used[vpid / 64] &= ~(1ull << vpid % 64); }

/* --- the VMCS of a vCPU --- */

static void vmcs_clear(struct vcpu *vcpu) {
    bool done = vmclear(&vcpu->vmcs_address);
    assert(done);
}

static void write_host_state(struct vcpu *vcpu);

void vmx_arrived(struct vcpu *vcpu) {
    struct cpu *cpu = vcpu->cpu = this_cpu();
    write_host_state(vcpu);
    invvpid_single(vcpu->vpid);
    atomic_or(&vcpu->domain->ept.cpus, 1ull << cpu->id);
}

void guest_unload(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    unswitched_evict(vcpu);
    if (vcpu->cpu == cpu) vmcs_clear(vcpu);
    if (cpu->loaded == vcpu) cpu->loaded = NULL;
    vcpu->cpu = NULL;
}

/* Access to the VMCS of a vCPU whose home this CPU is; the one that was current comes back. */
static struct vcpu *borrow(struct vcpu *vcpu) {
    struct vcpu *before = this_cpu()->loaded;
    guest_load(vcpu);
    return before;
}

static void give_back(struct vcpu *before) {
    if (before) guest_load(before);
}

static void write_host_state(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    vcpu->stack_top = cpu->stack_top;
    vmwrite16(VMCS_HOST_ES_SELECTOR, 0);
    vmwrite16(VMCS_HOST_CS_SELECTOR, SELECTOR_CODE);
    vmwrite16(VMCS_HOST_SS_SELECTOR, SELECTOR_DATA);
    vmwrite16(VMCS_HOST_DS_SELECTOR, 0);
    vmwrite16(VMCS_HOST_FS_SELECTOR, 0);
    vmwrite16(VMCS_HOST_GS_SELECTOR, 0);
    vmwrite16(VMCS_HOST_TR_SELECTOR, (u16)SELECTOR_TSS(cpu->id));
    vmwrite64(VMCS_HOST_CR0, read_cr0());
    vmwrite64(VMCS_HOST_CR3, paging_root());
    vmwrite64(VMCS_HOST_CR4, read_cr4());
    vmwrite64(VMCS_HOST_FS_BASE, 0);
    vmwrite64(VMCS_HOST_GS_BASE, (u64)cpu);
    vmwrite64(VMCS_HOST_TR_BASE, (u64)&cpu->tss);
    vmwrite64(VMCS_HOST_GDTR_BASE, cpu_gdt_base());
    vmwrite64(VMCS_HOST_IDTR_BASE, cpu_idt_base());
    vmwrite32(VMCS_HOST_SYSENTER_CS, 0);
    vmwrite64(VMCS_HOST_SYSENTER_ESP, 0);
    vmwrite64(VMCS_HOST_SYSENTER_EIP, 0);
    vmwrite64(VMCS_HOST_PAT, rdmsr(MSR_IA32_PAT));
    vmwrite64(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    vmwrite64(VMCS_HOST_RSP, (u64)(vcpu->gpr + ARRAY_SIZE(vcpu->gpr)));
    vmwrite64(VMCS_HOST_RIP, (u64)vmx_exited);
}

static void write_controls(struct vcpu *vcpu) {
    bool vm = vcpu->domain->role == ROLE_VM;
    vcpu->primary_controls = vm ? vmx.primary_vm : vmx.primary_component;
    vmwrite32(VMCS_PIN_CONTROLS, vmx.pin);
    vmwrite32(VMCS_PRIMARY_CONTROLS, vcpu->primary_controls);
    vmwrite32(VMCS_SECONDARY_CONTROLS, vm ? vmx.secondary_vm : vmx.secondary_component);
    vmwrite32(VMCS_EXIT_CONTROLS, vmx.exit);
    vmwrite32(VMCS_ENTRY_CONTROLS, vmx.entry);
    /* #DB and #AC: a guest could loop in their delivery for ever; #MC is the host's. A component
       has no vector state: CR0.TS is set for it, and #NM ends it. */
    vmwrite32(VMCS_EXCEPTION_BITMAP,
              1u << VECTOR_DB | 1u << VECTOR_AC | 1u << VECTOR_MC | (vm ? 0 : 1u << VECTOR_NM));
    if (vm && (vmx.secondary_vm & SECONDARY_PAUSE_LOOP)) {
        vmwrite32(VMCS_PLE_GAP, PAUSE_GAP);
        vmwrite32(VMCS_PLE_WINDOW, PAUSE_WINDOW);
    }
    vmwrite32(VMCS_PF_MASK, 0);
    vmwrite32(VMCS_PF_MATCH, 0);
    vmwrite32(VMCS_CR3_TARGET_COUNT, 0);
    vmwrite32(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmwrite32(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmwrite32(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmwrite32(VMCS_ENTRY_EVENT, 0);
    vmwrite64(VMCS_MSR_BITMAP, hpa_of(vm ? msr_bitmap_vm : msr_bitmap_component).v);
    vmwrite64(VMCS_TSC_OFFSET, 0);
    vmwrite64(VMCS_LINK_POINTER, ~0ull);
    vmwrite64(VMCS_EPT_POINTER, ept_pointer(&vcpu->domain->ept));
    vmwrite16(VMCS_VPID, vcpu->vpid);
    if (vm) {
        vmwrite64(VMCS_CR0_MASK, ~CR0_KNOWN | CR0_HOST_OWNED);
        vmwrite64(VMCS_CR4_MASK, ~VM_CR4 | CR4_MCE);
    } else {
        vmwrite64(VMCS_CR0_MASK, ~(CR0_PE | CR0_WP | CR0_PG));
        vmwrite64(VMCS_CR4_MASK, ~COMPONENT_CR4);
    }
}

static void point_to_io_bitmap(struct domain *domain) {
    u8 *bitmap = domain->io_bitmap ? domain->io_bitmap : io_bitmap_deny;
    vmwrite64(VMCS_IO_BITMAP_A, hpa_of(bitmap).v);
    vmwrite64(VMCS_IO_BITMAP_B, hpa_of(bitmap).v + PAGE_SIZE);
}

bool guest_init(struct vcpu *vcpu) {
    vcpu->vmcs = domain_pages(vcpu->domain, 0);
    vcpu->vpid = vcpu->vmcs ? vpid_alloc() : 0;
    if (!vcpu->vpid) return false;
    *(u32 *)vcpu->vmcs = vmx.revision;
    vcpu->vmcs_address = hpa_of(vcpu->vmcs);
    vmcs_clear(vcpu);
    struct vcpu *before = borrow(vcpu);
    write_controls(vcpu);
    point_to_io_bitmap(vcpu->domain);
    vmwrite64(VMCS_GUEST_PAT, PAT_RESET);
    vmwrite64(VMCS_CR0_SHADOW, CR0_CD | CR0_NW | CR0_ET);
    give_back(before);
    return true;
}

void guest_destroy(struct vcpu *vcpu) {
    guest_unload(vcpu);
    if (vcpu->vpid) vpid_free(vcpu->vpid);
    if (vcpu->vmcs) domain_pages_free(vcpu->domain, vcpu->vmcs, 0);
}

void guest_io_bitmap_set(struct domain *domain) {
    struct vcpu *vcpu = domain->vcpus[0]; /* a component has one */
    if (!vcpu) return;
    struct vcpu *before = borrow(vcpu);
    point_to_io_bitmap(domain);
    give_back(before);
}

void guest_tsc_offset_write(struct vcpu *vcpu) {
    struct vcpu *before = borrow(vcpu);
    vmwrite64(VMCS_TSC_OFFSET, vcpu->tsc_offset);
    give_back(before);
}

bool guest_apic_mode(struct vcpu *vcpu, bool x2apic, u16 interrupt_status) {
    u32 more = x2apic ? vmx.secondary_x2apic : 0;
    if (!virt_apic) return false;
    struct vcpu *before = borrow(vcpu);
    vmwrite64(VMCS_VIRTUAL_APIC, hpa_of(vcpu->apic.page).v);
    vmwrite32(VMCS_TPR_THRESHOLD, 0);
    vmwrite16(VMCS_INTERRUPT_STATUS, interrupt_status);
    for (unsigned i = 0; i < 4; i++)
        vmwrite64(VMCS_EOI_EXIT(i), vapic_levels(&vcpu->apic, i));
    vmwrite32(VMCS_PIN_CONTROLS, vmx.pin | (x2apic ? vmx.pin_x2apic : 0));
    if (virt_posted) {
        vmwrite16(VMCS_NOTIFICATION, POSTED_VECTOR);
        vmwrite64(VMCS_POSTED, hpa_of(&vcpu->posted).v);
    }
    vmwrite32(VMCS_SECONDARY_CONTROLS, vmx.secondary_vm | more);
    vmwrite64(VMCS_MSR_BITMAP, hpa_of(more ? msr_bitmap_x2apic : msr_bitmap_vm).v);
    give_back(before);
    return more & SECONDARY_VIRTUAL_INTERRUPTS;
}

/* --- control registers --- */

/* A control register as the guest reads it. */
static u64 guest_view(u64 hardware, u64 mask, u64 shadow) {
    return (hardware & ~mask) | (shadow & mask);
}

static u64 cr4_allowed(const struct vcpu *vcpu) {
    return (vcpu->domain->role == ROLE_VM ? VM_CR4 : COMPONENT_CR4) & vmx.cr4_fixed1;
}

/* What the hardware gets: CR0.NE is always 1, caching stays on, a component has no vector unit. */
static void put_cr0(struct vcpu *vcpu, u64 value) {
    u64 hardware = (value | CR0_NE | CR0_ET) & ~(CR0_CD | CR0_NW);
    if (vcpu->domain->role != ROLE_VM) hardware |= CR0_TS;
    vmwrite64(VMCS_GUEST_CR0, hardware);
    vmwrite64(VMCS_CR0_SHADOW, value);
}

static void put_cr4(u64 value) {
    vmwrite64(VMCS_GUEST_CR4, value | CR4_VMXE | CR4_MCE);
    vmwrite64(VMCS_CR4_SHADOW, value);
}

/* LMA follows LME and PG, and the entry control follows LMA. */
static void put_long_mode(u64 cr0, u64 efer) {
    bool lma = (efer & EFER_LME) && (cr0 & CR0_PG);
    u32 entry = vmread32(VMCS_ENTRY_CONTROLS);
    vmwrite32(VMCS_ENTRY_CONTROLS, lma ? entry | ENTRY_IA32E : entry & ~ENTRY_IA32E);
    vmwrite64(VMCS_GUEST_EFER, lma ? efer | EFER_LMA : efer & ~EFER_LMA);
}

#define PDPTE_RESERVED 0x1e6ull /* and what is beyond the physical addresses of EPT */
#define CR3_PDPT       0xffffffe0ull

/* Where a MOV to CR0, CR3 or CR4 turns to PAE paging the CPU loads four entries, and so must we.
   SDM volume 3, "PDPTE Registers". */
static bool load_pdptes(struct vcpu *vcpu, u64 cr0, u64 cr4, u64 efer) {
    struct hpa table;
    u64 cr3 = vmread64(VMCS_GUEST_CR3) & CR3_PDPT, entries[4];
    if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || (efer & EFER_LME)) return true;
    if (!ept_translate(&vcpu->domain->ept, gpa(cr3), RIGHT_READ, &table)) return false;
    physical_read(entries, table, sizeof(entries));
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        if ((entries[i] & 1) && (entries[i] & (PDPTE_RESERVED | ~(EPT_ADDRESS_LIMIT - 1))))
            return false;
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        vmwrite64(VMCS_GUEST_PDPTE(i), entries[i]);
    return true;
}

static bool in_64bit_code(u64 efer) {
    return (efer & EFER_LMA) && (vmread32(VMCS_GUEST_ACCESS(SEGMENT_CS)) & ACCESS_LONG);
}

bool guest_cr0_write(struct vcpu *vcpu, u64 value) {
    u64 cr4 = vmread64(VMCS_GUEST_CR4), efer = vmread64(VMCS_GUEST_EFER);
    u64 old = guest_cr0(vcpu);
    bool pg = value & CR0_PG;
    if (value >> 32 || (pg && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)) ||
        (!pg && ((cr4 & CR4_PCIDE) || in_64bit_code(efer))) ||
        (pg && (efer & EFER_LME) && !(cr4 & CR4_PAE)))
        return false;
    if ((value ^ old) & (CR0_PG | CR0_CD | CR0_NW) && !load_pdptes(vcpu, value, cr4, efer))
        return false;
    put_cr0(vcpu, value & CR0_KNOWN);
    put_long_mode(value, efer);
    if ((value ^ old) & CR0_PG) invvpid_single(vcpu->vpid);
    return true;
}

bool guest_cr4_write(struct vcpu *vcpu, u64 value) {
    u64 old = vmread64(VMCS_GUEST_CR4), efer = vmread64(VMCS_GUEST_EFER);
    if (!cr4_valid(value, old, cr4_allowed(vcpu), efer, vmread64(VMCS_GUEST_CR3))) return false;
    if ((value ^ old) & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP) &&
        !load_pdptes(vcpu, vmread64(VMCS_GUEST_CR0), value, efer))
        return false;
    put_cr4(value);
    /* As a MOV to CR4 would have done. */
    invvpid_single(vcpu->vpid);
    return true;
}

bool guest_efer_write(struct vcpu *vcpu, u64 value) {
    (void)vcpu;
    u64 old = vmread64(VMCS_GUEST_EFER), cr0 = vmread64(VMCS_GUEST_CR0);
    if (value & ~EFER_KNOWN || ((value ^ old) & EFER_LME && (cr0 & CR0_PG))) return false;
    put_long_mode(cr0, value);
    return true;
}

static u64 gpr_read(struct vcpu *vcpu, unsigned n) {
    return n == 4 ? vmread64(VMCS_GUEST_RSP) : vcpu->gpr[n];
}

/* Only writes that change what the host owns come here, and CR8: SDM volume 3, "Exit Qualification
   for Control-Register Accesses". */
bool guest_cr_access(struct vcpu *vcpu) {
    u64 q = vmread64(VMCS_EXIT_QUALIFICATION);
    unsigned cr = q & 15, access = q >> 4 & 3, gpr = q >> 8 & 15;
    u64 cr0 = guest_cr0(vcpu);
    bool ok = false;
    if (access == 0 && cr == 0) {
        ok = guest_cr0_write(vcpu, gpr_read(vcpu, gpr));
    } else if (access == 0 && cr == 4) {
        ok = guest_cr4_write(vcpu, gpr_read(vcpu, gpr));
    } else if (access == 0 && cr == 8 && vcpu->apic.page) {
        u64 value = gpr_read(vcpu, gpr);
        ok = value < 16;
        if (ok) vapic_tpr_write(vcpu, (u32)value << 4);
    } else if (access == 1 && cr == 8 && vcpu->apic.page) {
        vcpu->gpr[gpr] = vapic_tpr_read(&vcpu->apic) >> 4;
        if (gpr == 4) vmwrite64(VMCS_GUEST_RSP, vcpu->gpr[gpr]);
        ok = true;
    } else if (access == 2) { /* CLTS */
        ok = guest_cr0_write(vcpu, cr0 & ~CR0_TS);
    } else if (access == 3) { /* LMSW: the low four bits, and PE stays once it is set */
        u64 low = q >> 16 & 15;
        ok = guest_cr0_write(vcpu, (cr0 & ~0xeull) | low);
    }
    return ok;
}

/* --- the whole integer state --- */

void guest_state_write(struct vcpu *vcpu, const struct vcpu_state *state) {
    const struct segment_state *segments = (const struct segment_state *)state->segments;
    struct vcpu *before = borrow(vcpu);
    memcpy(vcpu->gpr, state->gpr, sizeof(vcpu->gpr));
    vmwrite64(VMCS_GUEST_RSP, state->gpr[4]);
    vmwrite64(VMCS_GUEST_RIP, state->rip);
    vmwrite64(VMCS_GUEST_RFLAGS, state->rflags | RFLAGS_FIXED);
    put_cr0(vcpu, state->cr0 & CR0_KNOWN);
    put_cr4(state->cr4 & cr4_allowed(vcpu));
    put_long_mode(state->cr0, state->efer & EFER_KNOWN);
    vmwrite64(VMCS_GUEST_CR3, state->cr3);
    if (!load_pdptes(vcpu, state->cr0, state->cr4, state->efer))
        vmwrite64(VMCS_GUEST_PDPTE(0), 0); /* a page fault is what it finds */
    vcpu->unswitched.cr2 = state->cr2;
    for (unsigned s = SEGMENT_ES; s <= SEGMENT_TR; s++) {
        vmwrite16(VMCS_GUEST_SELECTOR(s), segments[s].selector);
        vmwrite32(VMCS_GUEST_LIMIT(s), segments[s].limit);
        vmwrite32(VMCS_GUEST_ACCESS(s), segments[s].access);
        vmwrite64(VMCS_GUEST_BASE(s), segments[s].base);
    }
    for (unsigned s = SEGMENT_GDTR; s <= SEGMENT_IDTR; s++) {
        vmwrite32(VMCS_GUEST_LIMIT(s), segments[s].limit);
        vmwrite64(VMCS_GUEST_BASE(s), segments[s].base);
    }
    vmwrite64(VMCS_GUEST_DR7, 0x400);
    vmwrite64(VMCS_GUEST_DEBUGCTL, 0);
    vmwrite32(VMCS_GUEST_BLOCKING, 0);
    vmwrite32(VMCS_GUEST_ACTIVITY, 0);
    vmwrite64(VMCS_GUEST_PENDING_DEBUG, 0);
    vmwrite32(VMCS_GUEST_SYSENTER_CS, 0);
    vmwrite64(VMCS_GUEST_SYSENTER_ESP, 0);
    vmwrite64(VMCS_GUEST_SYSENTER_EIP, 0);
    vmwrite32(VMCS_ENTRY_EVENT, 0);
    vcpu->event = 0;
    vcpu->activity = ACTIVE;
    if (state->tsc_offset) {
        vcpu->tsc_offset = state->tsc_offset;
        vmwrite64(VMCS_TSC_OFFSET, state->tsc_offset);
    }
    invvpid_single(vcpu->vpid);
    give_back(before);
}

void guest_state_read(struct vcpu *vcpu, struct vcpu_state *state) {
    struct segment_state *segments = (struct segment_state *)state->segments;
    struct vcpu *before = borrow(vcpu);
    memset(state, 0, sizeof(*state));
    memcpy(state->gpr, vcpu->gpr, sizeof(vcpu->gpr));
    state->gpr[4] = vmread64(VMCS_GUEST_RSP);
    state->rip = vmread64(VMCS_GUEST_RIP);
    state->rflags = vmread64(VMCS_GUEST_RFLAGS);
    state->cr0 =
        guest_view(vmread64(VMCS_GUEST_CR0), vmread64(VMCS_CR0_MASK), vmread64(VMCS_CR0_SHADOW));
    state->cr4 =
        guest_view(vmread64(VMCS_GUEST_CR4), vmread64(VMCS_CR4_MASK), vmread64(VMCS_CR4_SHADOW));
    state->cr3 = vmread64(VMCS_GUEST_CR3);
    state->cr2 = this_cpu()->unswitched == vcpu ? read_cr2() : vcpu->unswitched.cr2;
    state->efer = vmread64(VMCS_GUEST_EFER);
    state->tsc_offset = vcpu->tsc_offset;
    for (unsigned s = SEGMENT_ES; s <= SEGMENT_IDTR; s++) {
        segments[s].limit = vmread32(VMCS_GUEST_LIMIT(s));
        segments[s].base = vmread64(VMCS_GUEST_BASE(s));
        if (s <= SEGMENT_TR) {
            segments[s].selector = vmread16(VMCS_GUEST_SELECTOR(s));
            segments[s].access = vmread32(VMCS_GUEST_ACCESS(s));
        }
    }
    give_back(before);
}

/* --- saved and loaded --- */

#define EACH_SAVED(field)                                                                          \
    field(blocking, VMCS_GUEST_BLOCKING) field(pending_debug, VMCS_GUEST_PENDING_DEBUG)            \
        field(dr7, VMCS_GUEST_DR7) field(sysenter_cs, VMCS_GUEST_SYSENTER_CS)                      \
            field(sysenter_esp, VMCS_GUEST_SYSENTER_ESP)                                           \
                field(sysenter_eip, VMCS_GUEST_SYSENTER_EIP) field(pat, VMCS_GUEST_PAT)            \
                    field(pdpte[0], VMCS_GUEST_PDPTE(0)) field(pdpte[1], VMCS_GUEST_PDPTE(1))      \
                        field(pdpte[2], VMCS_GUEST_PDPTE(2)) field(pdpte[3], VMCS_GUEST_PDPTE(3))
#define EACH_UNSWITCHED(field)                                                                     \
    field(dr6) field(star) field(lstar) field(cstar) field(fmask) field(kernel_gs_base)

void guest_snapshot_read(struct vcpu *vcpu, struct vcpu_snapshot *to) {
    struct vcpu *before = borrow(vcpu);
#define READ(name, field) to->name = (__typeof__(to->name))vmread_raw((field).encoding);
#define COPY(name)        to->name = vcpu->unswitched.name;
    EACH_SAVED(READ)
    EACH_UNSWITCHED(COPY)
#undef READ
#undef COPY
    if (vmread32(VMCS_ENTRY_EVENT) & EVENT_VALID) {
        to->event = vmread32(VMCS_ENTRY_EVENT);
        to->event_error = vmread32(VMCS_ENTRY_ERROR_CODE);
        to->event_length = vmread32(VMCS_ENTRY_LENGTH);
    }
    give_back(before);
}

void guest_snapshot_write(struct vcpu *vcpu, const struct vcpu_snapshot *from) {
    struct vcpu *before = borrow(vcpu);
#define WRITE(name, field) vmwrite_raw((field).encoding, from->name);
#define COPY(name)         vcpu->unswitched.name = from->name;
    EACH_SAVED(WRITE)
    EACH_UNSWITCHED(COPY)
#undef WRITE
#undef COPY
    give_back(before);
}

void vmx_entry_failed(struct vcpu *vcpu, u64 flags) {
    /* CF: no current VMCS; ZF: the VMCS's controls or host state are wrong. Both are ours. */
    u32 error = flags & 1 ? 0 : vmread32(VMCS_INSTRUCTION_ERROR);
    panic("VM entry of domain %u vCPU %u failed: error %u", vcpu->domain->id, vcpu->index, error);
}
