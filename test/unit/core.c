// with:
/* Cores of two threads: one tenant at a time on each. */
#define HOST_CPUS    4
#define HOST_THREADS 2
#include "passing.h"

static bool together; /* two tenants on a core at once: seen */
static bool both;     /* threads run, since seen_at */
static u64 both_time, seen_at;

static void look_at_cores(void) {
    for (unsigned core = 0; core < HOST_CPUS; core += 2) {
        const struct vcpu *a = host[core].runs, *b = host[core + 1].runs;
        u32 ta = a ? a->domain->tenant : 0, tb = b ? b->domain->tenant : 0;
        together |= ta && tb && ta != tb;
        if (core && both) both_time += host_tsc - seen_at;
        if (core) both = ta && tb;
    }
    seen_at = host_tsc;
}

int main(void) {
    strcpy(boot.command_line, "quiet");
    machine_start();
    fixed = fixed_frames();
    check(cpus[2].siblings == 12 && cpus[2].core == cpus[3].core && cpus[0].core != cpus[2].core,
          "CPUs of a core find each other");
    for (unsigned i = 0; i < 2; i++) {
        vm_busy(i, 2, i + 1);
        for (unsigned vcpu = 0; vcpu < 2; vcpu++)
            if (share(VM_VCPU(i, vcpu), SHARE(.cpus = CPU(2) | CPU(3)))) panic("refused");
    }
    pass(1000 * MS);
    seen_at = host_tsc;
    look_at_all = look_at_cores;
    u64 had[2], start = host_tsc;
    for (unsigned i = 0; i < 2; i++)
        had[i] = ran(VM_VCPU(i, 0)) + ran(VM_VCPU(i, 1));
    pass(2000 * MS);
    look_at_all = NULL;
    u64 time = host_tsc - start;
    for (unsigned i = 0; i < 2; i++)
        had[i] = ran(VM_VCPU(i, 0)) + ran(VM_VCPU(i, 1)) - had[i];
    printf("# %lu and %lu ms of %lu, both threads %lu\n", had[0] / MS, had[1] / MS, time / MS,
           both_time / MS);
    check(!together, "threads of a core never run two tenants at once");
    check(near(had[0], had[1], 20), "both tenants have their turns");
    check(near(had[0] + had[1], 2 * time, 20), "with little lost between two of them");
    check(near(both_time, time, 20), "a turn is both threads'");

    /* A host's component has no tenant: it runs beside any. */
    u64 before = ran(VM_VCPU(0, 0)) + ran(VM_VCPU(0, 1));
    check(!share(VM_VCPU(0, 0), SHARE(.cpus = CPU(1))), "a VM beside the control domain");
    for (unsigned i = 0; i < 100; i++) {
        pass(MS);
        wake_control();
        (void)call(HC_WAIT);
    }
    check(ran(VM_VCPU(0, 0)) + ran(VM_VCPU(0, 1)) - before > 140 * MS, "is not stopped by it");

    /* A dedicated thread leaves the other one to its tenant. */
    check(share(VM_VCPU(0, 0), SHARE(.scheduling = CLASS_DEDICATED, .cpus = CPU(3))) ==
              STATUS_NO_QUOTA,
          "nobody else must be without a CPU then");
    for (unsigned i = 0; i < 2; i++)
        check(!share(VM_VCPU(1, i), SHARE()), "the other tenant may go elsewhere");
    check(!share(VM_VCPU(0, 0), SHARE(.scheduling = CLASS_DEDICATED, .cpus = CPU(3))),
          "a thread for one vCPU");
    pass(100 * MS);
    bool away = true;
    for (unsigned i = 0; i < 2; i++)
        away &= vcpu_in(VM_VCPU(1, i))->home->id < 2;
    check(away, "its core is left by other tenants");
    check(vcpu_in(VM_VCPU(0, 1))->home == &cpus[2] && host[2].runs == vcpu_in(VM_VCPU(0, 1)),
          "and its own tenant has the other thread");
    for (unsigned i = 0; i < 2; i++)
        vm_end(i);
    sound("sound at the end");
    return unit_result();
}
