/* The AMD-V backend: what the CPU has, VMCBs and ASIDs, guest state. AMD APM volume 2, "Secure
   Virtual Machine". */
#include "apic.h"
#include "cpu.h"
#include "domain.h"
#include "frame.h"
#include "guest.h"
#include "log.h"
#include "mitigate.h"
#include "msr.h"
#include "regs.h"
#include "smp.h"
#include "trap.h"
#include "vcpu.h"
#include "x86.h"

bool virt_timer;
bool virt_posted, virt_apic = true; /* CR8 is the guest's own */
bool svm_tpr_lets_equal;

#define CPUID_SVM         0x8000000a
#define SVM_NESTED_PAGING (1u << 0) /* in EDX of it */
#define SVM_NEXT_RIP      (1u << 3)
#define SVM_CLEAN_BITS    (1u << 5)
#define SVM_ASSISTS       (1u << 7)
#define SVM_PAUSE_FILTER  (1u << 10)
#define SVM_WANTED        (SVM_NEXT_RIP | SVM_CLEAN_BITS | SVM_ASSISTS | SVM_PAUSE_FILTER)

static u32 has, features; /* SVM_..., FEATURE_... */
static u64 vm_cr4;        /* of VM_CR4, what this CPU has */
static u32 last_asid;
static u64 host_efer = EFER_SVME;

/* What each CPU has. An ASID is a vCPU's own for one generation; then all translations go. */
static struct {
    u64 generation;
    u32 next_asid;
    bool stale; /* translations of the generation before are still there */
    u64 host;   /* physical address of what VMLOAD brings back */
} own[MAX_CPUS];

static u8 *io_bitmap_deny, *msr_bitmap_vm, *msr_bitmap_component;

#define PAUSE_COUNT     3000
#define PAUSE_THRESHOLD 128 /* ticks between two of one loop */

static const u32 intercepts[] = {
    INTERCEPT(SVM_INTR) | INTERCEPT(SVM_NMI) | INTERCEPT(SVM_INIT) | INTERCEPT(SVM_VINTR) |
        INTERCEPT(SVM_RDPMC) | INTERCEPT(SVM_CPUID) | INTERCEPT(SVM_INVD) | INTERCEPT(SVM_HLT) |
        INTERCEPT(SVM_INVLPGA) | INTERCEPT(SVM_IO) | INTERCEPT(SVM_MSR) | INTERCEPT(SVM_SHUTDOWN),
    INTERCEPT(SVM_VMRUN) | INTERCEPT(SVM_VMMCALL) | INTERCEPT(SVM_VMLOAD) | INTERCEPT(SVM_VMSAVE) |
        INTERCEPT(SVM_STGI) | INTERCEPT(SVM_CLGI) | INTERCEPT(SVM_SKINIT) | INTERCEPT(SVM_WBINVD) |
        INTERCEPT(SVM_MONITOR) | INTERCEPT(SVM_MWAIT) | INTERCEPT(SVM_MWAIT_ARMED) |
        INTERCEPT(SVM_XSETBV) | INTERCEPT(SVM_RDPRU),
};

/* clang-format off */
const struct svm_exit svm_exits[SVM_CODES] = {
    [SVM_READ_CR4] = {1 + REASON_CR_ACCESS, 3},
    [SVM_WRITE_CR0] = {1 + REASON_CR_ACCESS, 3},
    [SVM_WRITE_CR4] = {1 + REASON_CR_ACCESS, 3},
    [SVM_EXCEPTION ... SVM_EXCEPTION + 31] = {1 + REASON_EXCEPTION, 0},
    [SVM_INTR] = {1 + REASON_EXTERNAL_INTERRUPT, 0},
    [SVM_NMI] = {1 + REASON_EXCEPTION, 0},
    [SVM_INIT] = {1 + REASON_INIT, 0},
    [SVM_VINTR] = {1 + REASON_INTERRUPT_WINDOW, 0},
    [SVM_RDPMC] = {1 + REASON_RDPMC, 0},
    [SVM_CPUID] = {1 + REASON_CPUID, 2},
    [SVM_IRET] = {1 + REASON_NMI_WINDOW, 0},
    [SVM_INVD] = {1 + REASON_INVD, 2},
    [SVM_PAUSE] = {1 + REASON_PAUSE, 2},
    [SVM_HLT] = {1 + REASON_HLT, 1},
    [SVM_INVLPGA] = {1 + REASON_VMCLEAR, 0},
    [SVM_IO] = {1 + REASON_IO, 0},
    [SVM_MSR] = {1 + REASON_RDMSR, 2},
    [SVM_SHUTDOWN] = {1 + REASON_TRIPLE_FAULT, 0},
    [SVM_VMRUN] = {1 + REASON_VMCLEAR, 0},
    [SVM_VMMCALL] = {1 + REASON_VMCALL, 3},
    [SVM_VMLOAD ... SVM_SKINIT] = {1 + REASON_VMCLEAR, 0},
    [SVM_WBINVD] = {1 + REASON_WBINVD, 2},
    [SVM_MONITOR] = {1 + REASON_MONITOR, 0},
    [SVM_MWAIT ... SVM_MWAIT_ARMED] = {1 + REASON_MWAIT, 0},
    [SVM_XSETBV] = {1 + REASON_XSETBV, 3},
    [SVM_RDPRU] = {1 + REASON_VMCLEAR, 0},
};
/* clang-format on */

/* --- the machine --- */

static void require(u64 present, const char *missing) {
    if (!present) refuse("this CPU's AMD-V has no %s.", missing);
}

#define VM_CR_DISABLED (1ull << 4)

void virt_require(void) {
    if (rdmsr(MSR_VM_CR) & VM_CR_DISABLED)
        refuse("AMD-V is disabled by firmware: VM_CR.SVMDIS is set. Enable \"SVM Mode\" in the "
               "firmware setup.");
    has = cpuid(CPUID_SVM, 0).edx;
    last_asid = cpuid(CPUID_SVM, 0).ebx - 1;
    require(has & SVM_NESTED_PAGING, "nested paging (second-level page tables)");
    require(last_asid + 1 > 2, "ASIDs (tagged TLB)");
}

static void name_missing(void) {
    static const char *const names[] = {[3] = "next-RIP saving",
                                        [5] = "VMCB clean bits",
                                        [7] = "decode assists",
                                        [10] = "PAUSE filter"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i] && !(has >> i & 1))
            log_info("AMD-V: this CPU has no %s; doing without", names[i]);
}

/* CPUID leaf 0x80000008 EBX, 0x80000021 EAX: APM volume 3. */
#define CPUID_IBPB           (1u << 12)
#define CPUID_VERW_CLEAR     (1u << 5)
#define CPUID_AUTOMATIC_IBRS (1u << 8)

/* As in vmx.c. Automatic IBRS is on for good. */
static void choose_mitigations(void) {
    bool ibpb = cpuid(0x80000008, 0).ebx & CPUID_IBPB;
    u32 more = cpuid(0x80000000, 0).eax >= 0x80000021 ? cpuid(0x80000021, 0).eax : 0;
    u32 verw = more & CPUID_VERW_CLEAR ? MITIGATION_VERW : 0;
    if (more & CPUID_AUTOMATIC_IBRS) host_efer = EFER_SVME | EFER_AIBRSE;
    mitigate_init(MITIGATION_RSB | (ibpb ? MITIGATION_IBPB : 0) | verw,
                  (ibpb ? MITIGATION_RSB : 0) | verw, 0);
    features |= ibpb ? FEATURE_IBPB : 0;
}

static void choose_cr4(void) {
    struct cpuid_regs basic = cpuid(1, 0), more = cpuid(7, 0);
    vm_cr4 = VM_CR4;
    if (!(basic.ecx & CPUID_1_ECX_PCID)) vm_cr4 &= ~CR4_PCIDE;
    if (!(more.ebx & CPUID_7_EBX_FSGSBASE)) vm_cr4 &= ~CR4_FSGSBASE;
    if (!(more.ebx & CPUID_7_EBX_SMEP)) vm_cr4 &= ~CR4_SMEP;
    if (!(more.ebx & CPUID_7_EBX_SMAP)) vm_cr4 &= ~CR4_SMAP;
    if (!(more.ecx & CPUID_7_ECX_UMIP)) vm_cr4 &= ~CR4_UMIP;
}

static u8 *denying(unsigned order) {
    u8 *pages = kpage_alloc(order);
    if (!pages) refuse("not enough memory for the AMD-V tables");
    return memset(pages, 0xff, (u64)PAGE_SIZE << order);
}

/* Two bits for each MSR of three ranges: read, write. */
static void msr_allow(u8 *bitmap, u32 msr, u32 rights) {
    u32 at = 2 * ((msr & 0x1fff) + (msr >= 0xc0000000 ? 0x2000 : 0));
    bitmap[at / 8] &= (u8) ~((rights & (RIGHT_READ | RIGHT_WRITE)) << at % 8);
}

bool virt_cpu_start(void) {
    u64 *save = kpage_alloc(1); /* the CPU's own, and what is left to VMSAVE */
    if (cpuid(CPUID_SVM, 0).edx != has || (rdmsr(MSR_VM_CR) & VM_CR_DISABLED) || !save)
        return false;
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | host_efer);
    wrmsr(MSR_VM_HSAVE_PA, hpa_of(save).v);
    u32 id = this_cpu()->id;
    own[id].host = hpa_of(save).v + PAGE_SIZE;
    own[id].next_asid = last_asid + 1;
    xstate_cpu_init();
    vmsave(own[id].host);
    return true;
}

void virt_init(enum apicv apicv) {
    (void)apicv;
    name_missing();
    choose_mitigations();
    choose_cr4();
    ept_has_1g = true; /* features.c has asked for them */
    features |= FEATURE_AMD_V | FEATURE_VPID | FEATURE_UNRESTRICTED | FEATURE_EPT_1G;
    io_bitmap_deny = denying(IO_BITMAP_ORDER);
    msr_bitmap_component = denying(1);
    msr_bitmap_vm = denying(1);
    msrs_pass(msr_bitmap_vm, msr_allow);
    xstate_init();
    if (!virt_cpu_start()) refuse("not enough memory for the AMD-V tables");
}

u32 virt_features(void) { return features; }

/* --- TLB tags and flushes --- */

static void asid_renew(struct vcpu *vcpu) {
    u32 id = this_cpu()->id;
    if (own[id].next_asid > last_asid) {
        own[id].next_asid = 1;
        own[id].generation++;
        own[id].stale = true;
    }
    /* Whichever of them enters first. */
    vcpu->vmcb->tlb_control = own[id].stale ? TLB_FLUSH_ALL : 0;
    vcpu->vmcb->asid = own[id].next_asid++;
    vcpu->vmcb->clean &= ~CLEAN_ASID;
    vcpu->generation = own[id].generation;
}

static void flush(void *unused) {
    struct cpu *cpu = this_cpu();
    (void)unused;
    own[cpu->id].next_asid = last_asid + 1;
    if (cpu->loaded) asid_renew(cpu->loaded);
}

void guest_flush(struct ept *ept) {
    if (ept->root) cpus_call(atomic_load(&ept->cpus), flush, ept);
}

/* --- the VMCB of a vCPU --- */

void guest_load(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (cpu->loaded == vcpu) return;
    cpu->loaded = vcpu;
    if (likely(vcpu->cpu == cpu && vcpu->generation == own[cpu->id].generation)) return;
    vcpu->cpu = cpu;
    vcpu->stack_top = cpu->stack_top;
    vcpu->host = own[cpu->id].host;
    vcpu->vmcb->clean = 0;
    asid_renew(vcpu);
    atomic_or(&vcpu->domain->ept.cpus, 1ull << cpu->id);
}

void guest_unload(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    unswitched_evict(vcpu);
    if (cpu->loaded == vcpu) cpu->loaded = NULL;
    vcpu->cpu = NULL;
}

void guest_io_bitmap_set(struct domain *domain) {
    struct vcpu *vcpu = domain->vcpus[0]; /* a component has one */
    if (!vcpu) return;
    vcpu->vmcb->io_bitmap = hpa_of(domain->io_bitmap ? domain->io_bitmap : io_bitmap_deny).v;
    vcpu->vmcb->clean = 0;
}

bool guest_init(struct vcpu *vcpu) {
    bool vm = vcpu->domain->role == ROLE_VM;
    struct vmcb *b = vcpu->vmcb = domain_pages(vcpu->domain, 0);
    if (!b) return false;
    vcpu->vmcb_address = hpa_of(b).v;
    memcpy(b->intercepts, intercepts, sizeof(intercepts));
    b->exceptions =
        1u << VECTOR_DB | 1u << VECTOR_AC | 1u << VECTOR_MC | (vm ? 0 : 1u << VECTOR_NM);
    if (!vm) { /* it has no vector state: CR0.TS stays set for it; nor debug registers */
        b->cr_writes = INTERCEPT_CR0;
        b->dr_reads = b->dr_writes = 0xffff;
    } else { /* each PAUSE, where there is no filter: it waits for another one's turn */
        /* A CPU without assists has no bits in CR4 that a guest must not have. */
        b->cr_writes = has & SVM_ASSISTS ? INTERCEPT_CR4 : 0;
        b->intercepts[0] |= INTERCEPT(SVM_PAUSE);
        b->pause_count = PAUSE_COUNT;
        b->pause_threshold = PAUSE_THRESHOLD;
    }
    b->io_bitmap = hpa_of(vcpu->domain->io_bitmap ? vcpu->domain->io_bitmap : io_bitmap_deny).v;
    b->msr_bitmap = hpa_of(vm ? msr_bitmap_vm : msr_bitmap_component).v;
    b->nested = 1;
    b->nested_cr3 = hpa_of(vcpu->domain->ept.root).v;
    b->interrupt = V_INTR_MASKING;
    b->pat = PAT_RESET;
    b->cr0 = CR0_CD | CR0_NW | CR0_ET;
    b->efer = EFER_SVME;
    return true;
}

void guest_destroy(struct vcpu *vcpu) {
    guest_unload(vcpu);
    if (vcpu->vmcb) domain_pages_free(vcpu->domain, vcpu->vmcb, 0);
}

void guest_tsc_offset_write(struct vcpu *vcpu) {
    vcpu->vmcb->tsc_offset = vcpu->tsc_offset;
    vcpu->vmcb->clean &= ~CLEAN_INTERCEPTS;
}

bool guest_apic_mode(struct vcpu *, bool, u16) { return false; }

/* --- exits --- */

/* The end of this instruction is an exit. */
static void step(struct vcpu *vcpu) {
    struct vmcb *b = vcpu->vmcb;
    if (vcpu->stepping) return;
    vcpu->stepping = true;
    vcpu->step_traps = b->rflags & RFLAGS_TF;
    b->rflags |= RFLAGS_TF;
}

/* What is delivered now comes before the step, and must not save its TF. IRET's own step goes on.
 */
void svm_step_undo(struct vcpu *vcpu) {
    if (!vcpu->stepping || vcpu->step_unmasks) return;
    vcpu->stepping = false;
    if (!vcpu->step_traps) vcpu->vmcb->rflags &= ~RFLAGS_TF;
}

/* An instruction that we have carried out with TF set: by the guest, or by step() behind its back.
 */
void svm_stepped(struct vcpu *vcpu) {
    struct vmcb *b = vcpu->vmcb;
    bool own = vcpu->stepping && !vcpu->step_traps;
    vcpu->stepping = false;
    vcpu->attention = true;
    if (own) {
        b->rflags &= ~RFLAGS_TF;
        return;
    }
    b->dr6 |= DR6_BS;
    b->clean &= ~CLEAN_DR;
    inject_exception(vcpu, VECTOR_DB, NO_ERROR_CODE);
}

/* The end of an NMI's handler is seen; behind STI or MOV SS comes the next instruction; what is
   being injected goes first, and an interrupt to ourselves ends the run behind it. */
void svm_nmi_window(struct vcpu *vcpu) {
    if (vcpu->vmcb->event & EVENT_VALID)
        lapic_ipi(this_cpu()->apic_id, IPI_FIXED | POKE_VECTOR);
    else if (!vcpu->nmi_masked)
        step(vcpu);
}

/* Called by svm_entry.S. */
void svm_exited(struct vcpu *vcpu) {
    struct vmcb *b = vcpu->vmcb;
    u32 *page = vcpu->apic.page;
    u32 tpr = (b->interrupt & V_TPR) << 4;
    vcpu->gpr[0] = b->rax;
    b->clean = CLEAN_ALL;
    if (unlikely(b->tlb_control) && b->exit_code <= SVM_PAGE) { /* VMRUN has not refused */
        b->tlb_control = 0;
        own[vcpu->cpu->id].stale = false;
    }
    b->event = 0;
    if (unlikely(b->exit_code == SVM_VINTR) && !(b->interrupt & V_IGNORE_TPR) &&
        V_PRIORITY(tpr >> 4) == (b->interrupt & V_PRIORITY(15)))
        svm_tpr_lets_equal = true;
    if (page && unlikely((page[VAPIC_TPR] ^ tpr) & 0xf0)) page[VAPIC_TPR] = tpr;
    if (unlikely(b->vectoring & EVENT_VALID)) inject_requeue(vcpu);
    if (unlikely(vcpu->nmi)) vcpu->attention = true;
    if (unlikely(b->exit_code == SVM_IRET)) {
        b->intercepts[0] &= ~INTERCEPT(SVM_IRET);
        b->clean &= ~CLEAN_INTERCEPTS;
        vcpu->step_unmasks = true;
        step(vcpu);
    }
    exit_handle(vcpu);
}

/* False: the exception was our own. DR6 has what it says already. */
bool guest_exception_end(struct vcpu *vcpu, u32 info) {
    struct vmcb *b = vcpu->vmcb;
    if (EVENT_VECTOR(info) != VECTOR_DB) return true;
    b->dr7 &= ~DR7_GD;
    b->clean &= ~CLEAN_DR;
    if (!vcpu->stepping) return true;
    vcpu->stepping = false;
    vcpu->attention = true;
    if (vcpu->step_unmasks)
        vcpu->nmi_masked = vcpu->step_unmasks = false; /* and IRET has loaded the guest's TF */
    else if (!vcpu->step_traps)
        b->rflags &= ~RFLAGS_TF;
    if (vcpu->step_traps) return true;
    b->dr6 &= ~DR6_BS;
    return b->dr6 & DR6_CAUSES;
}

/* INS and OUTS. Without assists OUTS has no prefix of a segment, and both have the address size of
   their code. */
u64 guest_port_linear(const struct vcpu *vcpu) {
    const struct vmcb *b = vcpu->vmcb;
    u32 info = (u32)b->exit_info1, size = info >> 7 & 7, attributes;
    bool in = info & 1, wide = guest_efer(vcpu) & EFER_LMA;
    attributes = b->segments[SEGMENT_CS].attributes;
    wide = wide && (attributes & ATTRIBUTE_LONG);
    if (!size) size = wide ? 4 : attributes & ATTRIBUTE_32 ? 2 : 1;
    u32 segment = in ? SEGMENT_ES : has & SVM_ASSISTS ? info >> 10 & 7 : SEGMENT_DS;
    u64 offset = vcpu->gpr[in ? 7 : 6] & (size == 4 ? ~0ull : size == 2 ? ~0u : 0xffff);
    if (wide) return offset + (segment >= SEGMENT_FS ? b->segments[segment].base : 0);
    return (u32)(offset + b->segments[segment].base);
}

/* --- guest state --- */

/* With CR4.MCE clear a machine check would end the VM, and nobody would look at it: so it stays
   set, and the guest reads CR4 with our help. */
static void put_cr4(struct vmcb *b, u64 value) {
    bool shown = !(b->cr_writes & INTERCEPT_CR4) || (value & CR4_MCE);
    b->cr4 = shown ? value : value | CR4_MCE;
    b->cr_reads = shown ? 0 : INTERCEPT_CR4;
}

static u64 cr4_shown(const struct vmcb *b) { return b->cr4 & ~(b->cr_reads ? CR4_MCE : 0); }

static bool cr0_write(struct vmcb *b, u64 value) {
    bool pg = value & CR0_PG;
    if (pg && (b->efer & EFER_LME) && !(b->cr4 & CR4_PAE)) return false;
    b->cr0 = (value & (CR0_PE | CR0_WP | CR0_PG)) | CR0_TS | CR0_NE | CR0_ET;
    b->efer = pg && (b->efer & EFER_LME) ? b->efer | EFER_LMA : b->efer & ~EFER_LMA;
    return true;
}

static bool cr4_write(struct vmcb *b, u64 value) {
    if (!(b->segments[SEGMENT_CS].attributes & ATTRIBUTE_LONG)) value = (u32)value;
    if (!cr4_valid(value, b->cr4, vm_cr4, b->efer, b->cr3)) return false;
    put_cr4(b, value);
    return true;
}

/* A component's MOV to CR0, and a VM's from and to CR4. Without assists, when there is only the
   first, it is from EAX; from elsewhere the component harms itself. */
bool guest_cr_access(struct vcpu *vcpu) {
    struct vmcb *b = vcpu->vmcb;
    unsigned gpr = has & SVM_ASSISTS ? b->exit_info1 & 15 : 0;
    u64 *at = gpr == 4 ? &b->rsp : &vcpu->gpr[gpr];
    if (b->exit_code == SVM_READ_CR4) {
        *at = cr4_shown(b);
        return true;
    }
    if (!(b->exit_code == SVM_WRITE_CR0 ? cr0_write(b, *at) : cr4_write(b, *at))) return false;
    b->clean &= ~(CLEAN_CR | CLEAN_INTERCEPTS);
    asid_renew(vcpu);
    return true;
}

/* QEMU loses the host's CR0 at an exit with LME, but neither PAE nor paging: so PAE is set. */
static void put_efer(struct vmcb *b, u64 value) {
    b->efer = value | EFER_SVME;
    if ((value & EFER_LME) && !(b->cr0 & CR0_PG)) b->cr4 |= CR4_PAE;
}

bool guest_efer_write(struct vcpu *vcpu, u64 value) {
    struct vmcb *b = vcpu->vmcb;
    if (value & ~EFER_KNOWN || ((value ^ b->efer) & EFER_LME && (b->cr0 & CR0_PG))) return false;
    put_efer(b, (value & ~EFER_LMA) | (b->efer & EFER_LMA));
    b->clean &= ~CLEAN_CR;
    return true;
}

/* Where the VMCB has the segments of the ABI. */
static const u8 places[] = {0, 1, 2, 3, 4, 5, 7, 9, 6, 8};

void guest_state_write(struct vcpu *vcpu, const struct vcpu_state *state) {
    const struct segment_state *segments = (const struct segment_state *)state->segments;
    bool vm = vcpu->domain->role == ROLE_VM;
    struct vmcb *b = vcpu->vmcb;
    memcpy(vcpu->gpr, state->gpr, sizeof(vcpu->gpr));
    b->rsp = state->gpr[4];
    b->rip = state->rip;
    b->rflags = state->rflags | RFLAGS_FIXED;
    b->cr0 = (state->cr0 & CR0_KNOWN) | CR0_ET | (vm ? 0 : CR0_TS | CR0_NE);
    if (!(b->cr0 & CR0_CD)) b->cr0 &= ~CR0_NW;
    put_cr4(b, state->cr4 & (vm ? vm_cr4 : COMPONENT_CR4));
    b->cr3 = state->cr3;
    b->cr2 = state->cr2;
    put_efer(b, state->efer & EFER_KNOWN & ~EFER_LMA);
    if ((b->efer & EFER_LME) && (b->cr0 & CR0_PG)) b->efer |= EFER_LMA;
    for (unsigned s = SEGMENT_ES; s <= SEGMENT_IDTR; s++) {
        u32 access = segments[s].access & SEGMENT_ACCESS_UNUSABLE ? 0 : segments[s].access;
        b->segments[places[s]] = (struct vmcb_segment){
            segments[s].selector, (u16)((access & 0xff) | (access >> 4 & 0xf00)), segments[s].limit,
            segments[s].base};
    }
    b->cpl = b->segments[SEGMENT_SS].attributes >> 5 & 3;
    b->dr6 = DR6_RESET;
    b->dr7 = 0x400;
    b->shadow = b->event = 0;
    memset(&b->star, 0, 8 * sizeof(u64)); /* to sysenter_eip */
    vcpu->event = 0;
    vcpu->nmi_masked = vcpu->stepping = vcpu->step_unmasks = false;
    b->intercepts[0] &= ~INTERCEPT(SVM_IRET);
    vcpu->activity = ACTIVE;
    if (state->tsc_offset) vcpu->tsc_offset = b->tsc_offset = state->tsc_offset;
    b->clean = 0;
    vcpu->generation = 0; /* a new ASID */
    if (this_cpu()->loaded == vcpu) asid_renew(vcpu);
}

/* --- saved and loaded --- */

#define EACH_SAVED(field)                                                                          \
    field(dr6) field(dr7) field(sysenter_cs) field(sysenter_esp) field(sysenter_eip) field(pat)    \
        field(star) field(lstar) field(cstar) field(fmask) field(kernel_gs_base)

/* An NMI that is being injected is not masked yet. The step that ends one's handler begins again at
   its IRET. CPL is what SS says, as VT-x has it. */
void guest_snapshot_read(struct vcpu *vcpu, struct vcpu_snapshot *to) {
    const struct vmcb *b = vcpu->vmcb;
    struct vcpu_state *state = (struct vcpu_state *)to->registers;
    u32 *ss = &((struct segment_state *)state->segments)[SEGMENT_SS].access;
#define COPY(name) to->name = b->name;
    EACH_SAVED(COPY)
#undef COPY
    *ss = (*ss & ~SEGMENT_DPL(3)) | SEGMENT_DPL(b->cpl);
    if (vcpu->stepping && !vcpu->step_traps) state->rflags &= ~RFLAGS_TF;
    to->blocking = (u32)guest_blocking(vcpu);
    if (!(b->event & EVENT_VALID)) return;
    to->event = (u32)b->event;
    to->event_error = (u32)(b->event >> 32);
    if (EVENT_TYPE(b->event) == 2) to->blocking &= ~BLOCKING_NMI;
}

void guest_snapshot_write(struct vcpu *vcpu, const struct vcpu_snapshot *from) {
    struct vmcb *b = vcpu->vmcb;
    const struct vcpu_state *state = (const struct vcpu_state *)from->registers;
#define COPY(name) b->name = from->name;
    EACH_SAVED(COPY)
#undef COPY
    b->cpl = ((const struct segment_state *)state->segments)[SEGMENT_SS].access >> 5 & 3;
    b->shadow = !!(from->blocking & (BLOCKING_STI | BLOCKING_MOV_SS));
    vcpu->nmi_masked = from->blocking & BLOCKING_NMI;
    if (vcpu->nmi_masked) b->intercepts[0] |= INTERCEPT(SVM_IRET);
    b->clean = 0;
}

void guest_state_read(struct vcpu *vcpu, struct vcpu_state *state) {
    struct segment_state *segments = (struct segment_state *)state->segments;
    const struct vmcb *b = vcpu->vmcb;
    *state = (struct vcpu_state){.rip = b->rip,
                                 .rflags = b->rflags,
                                 .cr0 = b->cr0,
                                 .cr2 = b->cr2,
                                 .cr3 = b->cr3,
                                 .cr4 = cr4_shown(b),
                                 .efer = guest_efer(vcpu),
                                 .tsc_offset = vcpu->tsc_offset};
    memcpy(state->gpr, vcpu->gpr, sizeof(vcpu->gpr));
    state->gpr[4] = b->rsp;
    for (unsigned s = SEGMENT_ES; s <= SEGMENT_IDTR; s++) {
        const struct vmcb_segment *from = &b->segments[places[s]];
        segments[s] = (struct segment_state){.selector = from->selector,
                                             .limit = from->limit,
                                             .access = access_of(from->attributes),
                                             .base = from->base};
    }
}
