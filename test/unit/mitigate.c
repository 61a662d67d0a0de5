// with:
/* What stands between two guests on a CPU: chosen by what the CPU has, set by the control domain,
   done by who they are to each other. */
#include "control.h"

enum { MODEL_A = 100, VM_A, MODEL_B, VM_B, MEMORY_A, MEMORY_B, VCPU_A, VCPU_B, RUN_A, RUN_B };

#define PREDICT (MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_BHB)

static void make(u64 model, u64 vm, u64 memory, u64 vcpu, u64 run, u64 tenant) {
    bool ok = call(HC_DOMAIN_CREATE, model, ROLE_DEVICE_MODEL, 100, 64, tenant) == STATUS_OK;
    ok &= call(HC_DOMAIN_CREATE, vm, ROLE_VM, 100, 16, tenant) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, memory, 70) == STATUS_OK;
    ok &= call(HC_MEM_MAP, model, memory, GPA_RAM, 0, 20, RIGHT_READ | RIGHT_WRITE) == STATUS_OK;
    ok &= call(HC_MEM_MAP, vm, memory, 0, 20, 50, 7) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, run, model, 0, 0) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, vcpu, vm, 0, model) == STATUS_OK;
    check(ok && domain_in(vm)->tenant == tenant, "a VM of a tenant");
    set_state(vcpu);
    (void)call(HC_VCPU_START, run);
    (void)call(HC_VCPU_START, vcpu);
}

/* Lets others run until this vCPU is entered; what was done for the last switch before it, and in
   done_since for all of them. */
static u32 done_since;
static u32 done_for(u64 slot) {
    done_since = 0;
    const struct vcpu *vcpu = vcpu_of(control_domain->caps[slot].object);
    for (unsigned i = 0; entered != vcpu; i++, done_since |= host_mitigated) {
        if (i > 1000) panic("it never runs");
        host_mitigated = 0;
        if (entered->domain->role != ROLE_VM) {
            (void)call(HC_WAIT);
        } else {
            host_tsc = host_cpu.slice_end;
            sched_deadline();
            leave(REASON_EXTERNAL_INTERRUPT);
        }
    }
    return host_mitigated;
}

static u32 set(u64 same, u64 within, u64 between) {
    to_control();
    return call(HC_MITIGATE, same, within, between);
}

static void test_table(void) {
    u32 all = mitigations.available;
    check(((struct info *)control_domain->info)->mitigations == all && (all & PREDICT),
          "the control domain is told what there is");
    check(set(all & ~MITIGATION_L1D, all, all) == STATUS_OK, "all of it is set");
    check((mitigate_exit & PREDICT) == (all & PREDICT) && mitigate_entry == (all & MITIGATION_VERW),
          "that of each exit and entry is where assembly looks");
    check(set(0, 0, 0) == STATUS_OK && !mitigate_exit && !mitigate_entry,
          "nothing: no byte is set");
    check(set(1 << 5, 0, 0) == STATUS_BAD_ARGUMENT &&
              set(0, 1ull << 32, 0) == STATUS_BAD_ARGUMENT &&
              set(0, 0, ~0ull) == STATUS_BAD_ARGUMENT,
          "not what there is not");
    check(!(all & MITIGATION_L1D) || set(MITIGATION_L1D, 0, 0) == STATUS_BAD_ARGUMENT,
          "nor an empty cache at each exit");
    check(set(MITIGATION_RSB, 0, ~0ull) == STATUS_BAD_ARGUMENT && !mitigate_exit,
          "a call that fails sets nothing");
}

static void test_relations(u64 tenant_a, u64 tenant_b, u32 expected, const char *name) {
    u32 all = mitigations.available;
    to_control();
    make(MODEL_A, VM_A, MEMORY_A, VCPU_A, RUN_A, tenant_a);
    make(MODEL_B, VM_B, MEMORY_B, VCPU_B, RUN_B, tenant_b);
    check(set(0, MITIGATION_IBPB, all) == STATUS_OK, "another table");
    (void)done_for(VCPU_A);
    u32 last = done_for(VCPU_B);
    check(expected == RELATION_WITHIN ? last == MITIGATION_IBPB : done_since == all, name);
    host_mitigated = 0;
    next_out8(0x80);
    leave(REASON_IO);
    check(entered->domain == domain_in(MODEL_B) && !host_mitigated,
          "nothing before its device model");
    entered->domain->vm->vcpus[0]->exit->reply = REPLY_ADVANCE;
    (void)call(HC_WAIT, 1);
    check(entered == vcpu_of(control_domain->caps[VCPU_B].object) && !host_mitigated,
          "nor behind it");
    host_mitigated = 0;
    to_control();
    check(host_mitigated == all, "the control domain is nobody's tenant");
    check(set(all & ~MITIGATION_L1D, all, all) == STATUS_OK, "all at each exit");
    (void)done_for(VCPU_A);
    (void)done_for(VCPU_B);
    check(done_since == (all & MITIGATION_L1D), "is not done once more at a switch");
    to_control();
    (void)set(0, 0, MITIGATION_IBPB);
    (void)done_for(VCPU_A);
    to_control();
    const struct domain *gone = domain_in(VM_A);
    host_cpu.last_domain = (struct domain *)gone;
    (void)call(HC_DOMAIN_DESTROY, VM_A);
    check(host_cpu.last_domain->tenant == ~0u,
          "what a domain that is gone has left is a stranger's");
    (void)call(HC_DOMAIN_DESTROY, MODEL_A);
    (void)call(HC_DOMAIN_DESTROY, VM_B);
    (void)call(HC_DOMAIN_DESTROY, MODEL_B);
    (void)call(HC_CAP_DROP, MEMORY_A);
    (void)call(HC_CAP_DROP, MEMORY_B);
    sound("sound after them");
}

/* One that comes back to a CPU after it was elsewhere is not what it was. */
static void test_arrival(void) {
    u32 all = mitigations.available;
    to_control();
    check(set(0, all, 0) == STATUS_OK, "a table without anything between tenants");
    struct domain vm = {.tenant = 1}, model = {.tenant = 1, .vm = &vm};
    vm.model = &model;
    struct domain other = {.tenant = 1}, foreign = {.tenant = 2};
    host_mitigated = 0;
    mitigate_switch(&model, &vm, false);
    mitigate_switch(&vm, &vm, false);
    mitigate_switch(NULL, &model, false);
    check(!host_mitigated, "nothing within a VM");
    mitigate_switch(&vm, &vm, true);
    check(host_mitigated == all, "but for a vCPU that was elsewhere, or another one");
    host_mitigated = 0;
    mitigate_switch(NULL, &vm, true);
    check(host_mitigated == all, "or is the first");
    host_mitigated = 0;
    mitigate_switch(&other, &vm, true);
    check(host_mitigated == all, "within a tenant");
    host_mitigated = 0;
    mitigate_switch(&foreign, &vm, true);
    check(!host_mitigated, "between tenants, as the table has it");
}

static bool chosen(u32 available, u32 same) {
    choose_mitigations();
    return mitigations.available == available && (mitigate_exit | mitigate_entry) == same;
}

#ifndef HOST_IS_AMD
#define ALWAYS (MITIGATION_RSB | MITIGATION_BHB)
static void cpu_is(u32 leaf7, u64 arch, u32 more) {
    host_leaf7 = leaf7;
    host_arch_capabilities = arch;
    host_leaf7_2 = more;
    vmx.spec_ctrl = 0;
}

static void test_choice(void) {
    u32 controls = CPUID7_IBRS_IBPB, caps = CPUID7_ARCH_CAPABILITIES;
    cpu_is(0, ~0ull, 0);
    check(chosen(ALWAYS, 0),
          "a CPU that tells nothing: what software alone can do, and none of it");
    cpu_is(controls, 0, 0);
    check(chosen(ALWAYS | MITIGATION_IBPB, MITIGATION_RSB) && !vmx.spec_ctrl,
          "with IBPB: return predictions after each exit");
    cpu_is(controls | CPUID7_MD_CLEAR | CPUID7_L1D_FLUSH, 0, 0);
    check(chosen(ALWAYS | MITIGATION_IBPB | MITIGATION_L1D | MITIGATION_VERW,
                 MITIGATION_RSB | MITIGATION_VERW),
          "with buffers that leak: VERW before each entry");
    cpu_is(controls | caps | CPUID7_MD_CLEAR, ARCH_MDS_NO | ARCH_IBRS_ALL, 0);
    check(chosen(ALWAYS | MITIGATION_IBPB | MITIGATION_VERW, MITIGATION_RSB) &&
              vmx.spec_ctrl == SPEC_CTRL_IBRS,
          "with those that do not: none; enhanced IBRS is on for good");
    cpu_is(controls | caps, ARCH_MDS_NO | ARCH_IBRS_ALL | ARCH_RFDS_CLEAR, CPUID72_BHI_CTRL);
    check(chosen(ALWAYS | MITIGATION_IBPB | MITIGATION_VERW, MITIGATION_RSB | MITIGATION_VERW) &&
              vmx.spec_ctrl == (SPEC_CTRL_IBRS | SPEC_CTRL_BHI_DIS_S),
          "register files that leak; and the CPU keeps branch history apart");
}
#else
static void test_choice(void) {
    host_amd_8 = 0;
    check(chosen(MITIGATION_RSB, 0), "a CPU without IBPB");
    host_amd_8 = CPUID_IBPB;
    check(chosen(MITIGATION_RSB | MITIGATION_IBPB, MITIGATION_RSB) && host_efer == EFER_SVME,
          "with IBPB: return predictions after each exit");
    host_amd_21 = CPUID_VERW_CLEAR | CPUID_AUTOMATIC_IBRS;
    check(chosen(MITIGATION_RSB | MITIGATION_IBPB | MITIGATION_VERW,
                 MITIGATION_RSB | MITIGATION_VERW) &&
              host_efer == (EFER_SVME | EFER_AIBRSE),
          "buffers that VERW empties; automatic IBRS is on for good");
}
#endif

int main(void) {
    machine_start();
    fixed = fixed_frames();
    test_table();
    test_relations(1, 1, RELATION_WITHIN, "within a tenant, between two VMs");
    test_relations(1, 2, RELATION_BETWEEN, "between tenants");
    test_arrival();
    test_choice();
    return unit_result();
}
