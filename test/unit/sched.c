// with:
/* Who gets how much of which CPU: classes, promises, homes. */
#define HOST_CPUS 4
#include "passing.h"

static void test_weights(void) {
    vm_busy(0, 1, 1);
    vm_busy(1, 1, 2);
    check(!share(VM_VCPU(0, 0), SHARE(.cpus = CPU(1))) &&
              !share(VM_VCPU(1, 0), SHARE(.weight = 300, .cpus = CPU(1))),
          "two VMs on one CPU");
    u64 a = ran(VM_VCPU(0, 0)), b = ran(VM_VCPU(1, 0)), wa = waited_for(VM_VCPU(0, 0));
    u64 start = host_tsc;
    pass(2000 * MS);
    u64 time = host_tsc - start;
    a = ran(VM_VCPU(0, 0)) - a, b = ran(VM_VCPU(1, 0)) - b;
    check(near(a, time / 4, 20) && near(b, time * 3 / 4, 20), "weights 100 and 300 are shares");
    check(near(a + waited_for(VM_VCPU(0, 0)) - wa, time, 1), "running and waiting is all time");
    check(vcpu_in(VM_VCPU(0, 0))->home == &cpus[1], "affinity is kept");
    /* A cap leaves the rest to others. */
    check(!share(VM_VCPU(1, 0),
                 SHARE(.weight = 300, .budget = 2 * MS, .period = 10 * MS, .cpus = CPU(1))),
          "a cap");
    u64 throttles = vcpu_in(VM_VCPU(1, 0))->throttles;
    a = ran(VM_VCPU(0, 0)), b = ran(VM_VCPU(1, 0)), start = host_tsc;
    pass(2000 * MS);
    time = host_tsc - start;
    check(near(ran(VM_VCPU(1, 0)) - b, time / 5, 20), "it has a fifth at most");
    check(near(ran(VM_VCPU(0, 0)) - a, time * 4 / 5, 20), "the rest is the other's");
    check(vcpu_in(VM_VCPU(1, 0))->throttles - throttles > 150, "that it was stopped is counted");
    /* Nobody else needs the CPU: it is capped all the same. */
    vm_end(0);
    b = ran(VM_VCPU(1, 0)), start = host_tsc;
    pass(1000 * MS);
    check(near(ran(VM_VCPU(1, 0)) - b, (host_tsc - start) / 5, 20), "alone it has a fifth, too");
    vm_end(1);
    sound("sound after weights and a cap");
}

static void test_reservations(void) {
    for (unsigned i = 0; i < 3; i++)
        vm_busy(i, 1, i + 1);
    const struct vcpu_share hard = SHARE(.scheduling = CLASS_RESERVED, .weight = 0,
                                         .budget = 6 * MS, .period = 20 * MS, .cpus = CPU(1));
    struct vcpu_share soft = hard;
    soft.weight = WEIGHT_DEFAULT, soft.budget = 2 * MS, soft.period = 10 * MS;
    check(!share(VM_VCPU(0, 0), hard) && !share(VM_VCPU(1, 0), soft) &&
              !share(VM_VCPU(2, 0), SHARE(.cpus = CPU(1))),
          "30 % hard, 20 % soft, and one with the rest");
    pass(1000 * MS); /* what each had elsewhere is evened out */
    u64 before[3], start = host_tsc;
    for (unsigned i = 0; i < 3; i++)
        before[i] = ran(VM_VCPU(i, 0));
    bool each = true;
    for (unsigned period = 0; period < 50; period++) { /* of the two together */
        u64 a = ran(VM_VCPU(0, 0)), b = ran(VM_VCPU(1, 0));
        pass(20 * MS);
        each &= ran(VM_VCPU(0, 0)) - a >= 6 * MS * 98 / 100;
        each &= ran(VM_VCPU(1, 0)) - b >= 4 * MS * 98 / 100;
    }
    u64 time = host_tsc - start;
    check(each, "each has its budget in each period (earliest deadline first)");
    check(near(ran(VM_VCPU(0, 0)) - before[0], time * 3 / 10, 20), "hard: no more than that");
    check(near(ran(VM_VCPU(1, 0)) - before[1], time * 45 / 100, 40), "soft: its part of the rest");
    check(near(ran(VM_VCPU(2, 0)) - before[2], time * 25 / 100, 40), "the other has the same part");

    /* Admission. */
    struct vcpu_share more = hard;
    more.budget = 11 * MS; /* 55 % */
    check(share(VM_VCPU(2, 0), more) == STATUS_NO_QUOTA, "nothing is promised twice");
    check(vcpu_in(VM_VCPU(2, 0))->share.class == CLASS_SHARED, "who was refused stays what it was");
    more.budget = 10 * MS;
    check(!share(VM_VCPU(2, 0), more), "all of a CPU can be promised");
    check(!share(VM_VCPU(1, 0), SHARE(.cpus = CPU(1))), "one gives its promise back");
    more.budget = 14 * MS;
    check(!share(VM_VCPU(2, 0), more), "then another one has it");
    vm_end(0);
    more.budget = 20 * MS;
    check(!share(VM_VCPU(2, 0), more), "so it is when one is destroyed");
    vm_end(1);
    vm_end(2);
    sound("sound after reservations");
}

static void test_latency(void) {
    enum { COUNT = 12 };
    vm_busy(0, COUNT, 1);
    for (unsigned i = 0; i < COUNT; i++)
        if (share(VM_VCPU(0, i), SHARE(.latency = (i ? 100 : 6) * MS, .cpus = CPU(1))))
            panic("refused");
    pass(4000 * MS); /* what each had elsewhere is evened out */
    u64 longest = 0, start = host_tsc, before = ran(VM_VCPU(0, 0));
    while (host_tsc < start + 1000 * MS) {
        cpus_step(~0ull - 1);
        const struct vcpu *vcpu = vcpu_in(VM_VCPU(0, 0));
        if (vcpu->ready_since && host_tsc - vcpu->ready_since > longest)
            longest = host_tsc - vcpu->ready_since;
    }
    printf("# the longest wait: %lu us\n", longest / 1000);
    check(longest <= 6 * MS * 11 / 10, "among twelve one never waits for longer than its bound");
    check(near(ran(VM_VCPU(0, 0)) - before, (host_tsc - start) / COUNT, 20), "at the same share");
    vm_end(0);
    sound("sound after latencies");
}

#define REFUSED(status, slot, ...)                                                                 \
    check(share(slot, SHARE(__VA_ARGS__)) == (status), "refused: " #__VA_ARGS__)
#define BAD(...) REFUSED(STATUS_BAD_ARGUMENT, VM_VCPU(0, 0), __VA_ARGS__)

static void test_refusals(void) {
    if (!vm_make(0, 3, 1)) panic("no VM");
    BAD(.scheduling = CLASS_DEDICATED + 1);
    BAD(.scheduling = ~0u);
    BAD(.weight = 0);
    BAD(.weight = 10001);
    BAD(.budget = MS);
    BAD(.period = MS);
    BAD(.budget = MS, .period = ~0ull);
    BAD(.budget = 2 * MS, .period = MS);
    BAD(.budget = MS / 11, .period = MS / 11);
    BAD(.budget = MS, .period = 1001 * MS);
    BAD(.budget = MS, .period = 1000 * MS + 1);
    BAD(.budget = 1, .period = 10 * MS);
    BAD(.latency = 0);
    BAD(.latency = MS / 6);
    BAD(.latency = 1000 * MS + 1);
    BAD(.cpus = 0);
    BAD(.cpus = ~0ull << HOST_CPUS);
    BAD(.scheduling = CLASS_RESERVED);
    BAD(.scheduling = CLASS_DEDICATED, .budget = MS, .period = MS);
    REFUSED(STATUS_BAD_ARGUMENT, MODEL_VCPU(0), .budget = MS, .period = 10 * MS);
    REFUSED(STATUS_BAD_ARGUMENT, MODEL_VCPU(0), .scheduling = CLASS_DEDICATED);
    REFUSED(STATUS_BAD_CAP, VM(0), .weight = 100);
    REFUSED(STATUS_NO_QUOTA, VM_VCPU(0, 0), .scheduling = CLASS_DEDICATED, .cpus = CPU(0));
    check(!share(VM_VCPU(0, 0), SHARE(.scheduling = CLASS_DEDICATED, .cpus = CPU(2))) &&
              cpus[2].dedicated == vcpu_in(VM_VCPU(0, 0)),
          "a CPU for itself");
    REFUSED(STATUS_NO_QUOTA, VM_VCPU(0, 1), .scheduling = CLASS_DEDICATED, .cpus = CPU(2));
    REFUSED(STATUS_NO_QUOTA, VM_VCPU(0, 1), .cpus = CPU(2));
    REFUSED(STATUS_NO_QUOTA, VM_VCPU(0, 1), .scheduling = CLASS_RESERVED, .budget = MS,
            .period = 10 * MS, .cpus = CPU(2));
    check(!share(VM_VCPU(0, 1), SHARE(.cpus = CPU(1))), "one that has nowhere else to go");
    REFUSED(STATUS_NO_QUOTA, VM_VCPU(0, 2), .scheduling = CLASS_DEDICATED, .cpus = CPU(1));
    check(!share(VM_VCPU(0, 1), SHARE(.cpus = CPU(1) | CPU(3))) &&
              !share(VM_VCPU(0, 2), SHARE(.scheduling = CLASS_DEDICATED, .cpus = CPU(1))),
          "with somewhere else it does not stand in the way");
    REFUSED(STATUS_NO_QUOTA, VM_VCPU(0, 0), .scheduling = CLASS_DEDICATED, .cpus = CPU(3));
    check(cpus[2].dedicated == vcpu_in(VM_VCPU(0, 0)), "who was refused keeps what it had");
    check(!share(VM_VCPU(0, 0), SHARE()) && !cpus[2].dedicated, "a change gives the CPU back");
    vm_end(0);
    check(!cpus[1].dedicated, "so does an end");
    sound("sound after refusals");
}

static void test_dedicated(void) {
    vm_busy(0, 1, 1);
    vm_busy(1, 6, 2);
    const struct vcpu *one = vcpu_in(VM_VCPU(0, 0));
    pass(100 * MS);
    check(!share(VM_VCPU(0, 0), SHARE(.scheduling = CLASS_DEDICATED, .cpus = CPU(3))), "dedicated");
    pass(20 * MS);
    bool away = true;
    for (unsigned i = 0; i < 6; i++)
        away &= vcpu_in(VM_VCPU(1, i))->home != &cpus[3];
    check(away && host[3].runs == one, "the others are sent away");
    check(cpus[3].slice_end > host_tsc + 1000 * 1000 * MS, "its slice has no end");
    u64 before = ran(VM_VCPU(0, 0)), start = host_tsc, exits = one->forwarded;
    pass(1000 * MS);
    check(ran(VM_VCPU(0, 0)) - before == host_tsc - start, "it has all of the time");
    asks = vcpu_in(VM_VCPU(0, 0));
    asks_every = MS, answer_takes = MS / 10, asks_next = host_tsc + asks_every;
    pass(200 * MS);
    check(one->forwarded - exits > 150 && vcpu_in(MODEL_VCPU(0))->home == &cpus[3],
          "its device model comes to it");
    asks = NULL;
    check(!share(VM_VCPU(0, 0), SHARE()), "it shares again");
    before = ran(VM_VCPU(0, 0)), start = host_tsc;
    pass(3000 * MS);
    check(ran(VM_VCPU(0, 0)) - before < (host_tsc - start) * 3 / 4, "and the others are back");
    vm_end(0);
    vm_end(1);
    sound("sound after a dedicated CPU");
}

static void test_homes(void) {
    vm_busy(0, 4, 1);
    pass(50 * MS);
    u64 used = 0;
    for (unsigned i = 0; i < 4; i++)
        used |= CPU(vcpu_in(VM_VCPU(0, i))->home->id);
    check(used == 15, "four vCPUs have four CPUs");
    vm_busy(1, 3, 2); /* seven on four CPUs: nobody may be left behind */
    pass(5000 * MS);
    u64 before[7], least = ~0ull, most = 0, idle = sched_idle_time(), start = host_tsc;
    for (unsigned i = 0; i < 7; i++)
        before[i] = ran(i < 4 ? VM_VCPU(0, i) : VM_VCPU(1, i - 4));
    pass(4000 * MS);
    for (unsigned i = 0; i < 7; i++) {
        u64 had = ran(i < 4 ? VM_VCPU(0, i) : VM_VCPU(1, i - 4)) - before[i];
        least = had < least ? had : least;
        most = had > most ? had : most;
    }
    printf("# %lu to %lu ms of %lu\n", least / MS, most / MS, (host_tsc - start) / MS);
    check(near(least, (host_tsc - start) * 4 / 7, 20) && near(most, (host_tsc - start) * 4 / 7, 20),
          "seven vCPUs on four CPUs are evened out");
    check(sched_idle_time() - idle < (host_tsc - start) / 1000, "and no CPU is idle");
    vm_end(0);
    vm_end(1);
    sound("sound after homes");
}

/* Once it runs on CPU 1, where the others have been interrupted, it spins; returns when its slice
   would have ended. */
static u64 spin(const struct vcpu *vcpu) {
    while (host[1].runs != vcpu)
        cpus_step(~0ull - 1);
    for (struct vcpu *other = cpus[1].queue; other; other = other->queue_next)
        other->slice_left = MS;
    u64 end = cpus[1].slice_end;
    now = 1;
    host_tsc += MS / 4;
    leave(REASON_PAUSE);
    now = 0;
    return end;
}

static void test_spinning(void) {
    vm_busy(0, 2, 1);
    vm_busy(1, 1, 2);
    for (unsigned i = 0; i < 3; i++)
        if (share(i < 2 ? VM_VCPU(0, i) : VM_VCPU(1, 0), SHARE(.cpus = CPU(1)))) panic("refused");
    pass(1000 * MS);
    const struct vcpu *one = vcpu_in(VM_VCPU(0, 0)), *two = vcpu_in(VM_VCPU(0, 1));
    bool yields = true, same_slice = true, own_slice = true;
    for (unsigned i = 0; i < 20; i++) {
        u64 end = spin(one);
        yields &= host[1].runs == two && cpus[1].owner == two;
        same_slice &= cpus[1].slice_end == end && !two->slice_left;
    }
    check(yields, "who spins makes room for another vCPU of its VM");
    check(same_slice, "for the rest of the slice");
    if (share(VM_VCPU(0, 1), SHARE(.budget = 4 * MS, .period = 10 * MS, .cpus = CPU(1))))
        panic("refused");
    for (unsigned i = 0; i < 20; i++)
        own_slice &= spin(one) != cpus[1].slice_end;
    check(own_slice, "unless that has a budget");
    bool others = false; /* whoever is next by the queue */
    for (unsigned i = 0; i < 20; i++) {
        spin(vcpu_in(VM_VCPU(1, 0)));
        others |= host[1].runs && host[1].runs != vcpu_in(VM_VCPU(1, 0));
    }
    check(others, "or else for others");
    vm_end(0);
    vm_end(1);
    sound("sound after spinning");
}

/* Two of the same weight, of which one's device model works as much as the VM. */
static void test_device_model(void) {
    vm_busy(0, 1, 1);
    vm_busy(1, 1, 2);
    for (unsigned i = 0; i < 2; i++)
        if (share(VM_VCPU(i, 0), SHARE(.cpus = CPU(1))) ||
            share(MODEL_VCPU(i), SHARE(.cpus = CPU(1))))
            panic("refused");
    pass(1000 * MS);
    asks = vcpu_in(VM_VCPU(0, 0));
    asks_every = answer_takes = MS / 4, asks_next = host_tsc + asks_every;
    u64 vm = ran(VM_VCPU(0, 0)), model = ran(MODEL_VCPU(0)), other = ran(VM_VCPU(1, 0));
    u64 start = host_tsc;
    pass(2000 * MS);
    vm = ran(VM_VCPU(0, 0)) - vm, model = ran(MODEL_VCPU(0)) - model;
    other = ran(VM_VCPU(1, 0)) - other;
    check(near(vm, model, 50), "the device model works as much as its VM");
    check(near(other, (host_tsc - start) / 2, 20), "which pays for both");
    asks = NULL;
    vm_end(0);
    vm_end(1);
    sound("sound after a busy device model");
}

/* A driver that runs elsewhere is given a port. */
static void test_ports(void) {
    enum { DRIVER = MODEL(0), VCPU };
    bool ok = control(HC_DOMAIN_CREATE, DRIVER, ROLE_DRIVER, 100, 64) == 0;
    ok &= control(HC_VCPU_CREATE, VCPU, DRIVER, 0, 0) == 0;
    ok &= share(VCPU, SHARE(.cpus = CPU(2))) == 0;
    ok &= control(HC_VCPU_START, VCPU) == 0;
    pass(10 * MS);
    check(ok && vcpu_in(VCPU)->home == &cpus[2], "a driver on another CPU");
    check(control(HC_PORTS_MAP, DRIVER, 0x60, 1) == 0, "it gets a port");
    domain_signal(domain_in(DRIVER), 1ull << 40);
    pass(10 * MS);
    check(vcpu_in(VCPU)->home == &cpus[2], "and goes on where it was");
    check(share(VCPU, SHARE(.cpus = CPU(3))) == 0, "it can go elsewhere");
    domain_signal(domain_in(DRIVER), 1ull << 40);
    pass(10 * MS);
    (void)control(HC_DOMAIN_DESTROY, DRIVER);
    sound("sound after a driver's port");
}

/* Its device model, on another CPU, does an access to its local APIC for it. */
static void test_apic_access(void) {
    vm_busy(0, 1, 1);
    struct vcpu *vcpu = vcpu_in(VM_VCPU(0, 0));
    bool ok = control(HC_CAP_GRANT, MODEL(0), CAP_VCPU, VM_VCPU(0, 0), RIGHT_INTERRUPT) == 0;
    ok &= !share(VM_VCPU(0, 0), SHARE(.cpus = CPU(2)));
    ok &= !share(MODEL_VCPU(0), SHARE(.cpus = CPU(1)));
    pass(10 * MS);
    now = 2;
    next_out8(0x80);
    leave(REASON_IO);
    now = 1;
    while (take_poke())
        ;
    check(ok && entered == vcpu_in(MODEL_VCPU(0)) && vcpu->state == VCPU_EXITED,
          "a device model that may not come to its VM's CPU");
    check(call(HC_APIC_ACCESS, CAP_VCPU, vcpu->apic.base & ~0xfffull) == STATUS_OK,
          "has the VM's local APIC");
    vcpu->exit->reply = REPLY_ADVANCE;
    (void)call(HC_WAIT, 1);
    pass(MS);
    check(vcpu->home == &cpus[2] && host[2].runs == vcpu, "and the VM goes on where it may");
    vm_end(0);
    sound("sound after an access to a local APIC");
}

static void exit_on_1(void) {
    now = 1;
    next_out8(0x80);
    leave(REASON_IO);
}

/* A CPU that has let a device model go is asked for it before the one that takes it goes on. */
static void test_taking(void) {
    vm_busy(0, 1, 1);
    struct vcpu *vcpu = vcpu_in(VM_VCPU(0, 0)), *model = vcpu_in(MODEL_VCPU(0));
    bool ok = !share(VM_VCPU(0, 0), SHARE(.cpus = CPU(1)));
    ok &= !share(MODEL_VCPU(0), SHARE(.cpus = CPU(1)));
    pass(10 * MS);
    ok &= host[1].runs == vcpu && model->home == &cpus[1] && model->state == VCPU_HALTED;
    wake_control();
    meanwhile = exit_on_1;
    ok &= !share(MODEL_VCPU(0), SHARE(.cpus = CPU(2)));
    check(ok && !meanwhile && vcpu->state == VCPU_EXITED,
          "a VM exits while its device model is taken");
    check(cpus[1].current != model && model->home == &cpus[2], "which does not run where it was");
    pass(10 * MS);
    check(vcpu->state == VCPU_READY, "and answers where it is");
    vm_end(0);
    sound("sound after taking");
}

int main(void) {
    strcpy(boot.command_line, "quiet");
    machine_start();
    fixed = fixed_frames();
    test_weights();
    test_reservations();
    test_latency();
    test_refusals();
    test_dedicated();
    test_homes();
    test_spinning();
    test_device_model();
    test_ports();
    test_apic_access();
    test_taking();
    return unit_result();
}
