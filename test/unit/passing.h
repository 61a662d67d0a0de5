/* Time passes on all CPUs: VMs that are always busy, device models that answer and wait. */
#pragma once

#define HOST_TSC_HZ 1000000000ul
#include "control.h"

#define MS (HOST_TSC_HZ / 1000)

/* The slots of a pair, beside those of the pairs before. */
#define MODEL(pair)         (100 + 30 * (pair))
#define VM(pair)            (101 + 30 * (pair))
#define MODEL_VCPU(pair)    (102 + 30 * (pair))
#define VM_VCPU(pair, vcpu) (103 + 30 * (pair) + (vcpu))

static struct vcpu *vcpu_in(u64 slot) { return vcpu_of(control_domain->caps[slot].object); }
static u64 ran(u64 slot) { return sched_run_time(vcpu_in(slot)); }
static inline u64 waited_for(u64 slot) { return sched_ready_time(vcpu_in(slot)); }

/* A VM whose device model is asked all the time, and how long each of both then runs. */
static struct vcpu *asks;
static u64 asks_every, answer_takes, asks_next;

static bool near(u64 value, u64 wanted, u64 thousandths) {
    u64 most = wanted * thousandths / 1000;
    bool is = value + most >= wanted && value <= wanted + most;
    if (!is) printf("# %lu, not about %lu\n", value, wanted);
    return is;
}

/* What every CPU must show between two steps, looked at by tests of cores. */
static void (*look_at_all)(void);

static u64 due(void) {
    if (!entered) return host_timer;
    return entered == asks && asks_next < host_cpu.deadline ? asks_next : host_cpu.deadline;
}

static void component_goes_on(void) {
    struct domain *vm = entered->domain->vm;
    struct vcpu *asked = vm ? vm->vcpus[0] : NULL;
    if (!asked || asked->state != VCPU_EXITED) {
        (void)call(HC_WAIT);
        return;
    }
    host_tsc += answer_takes;
    asks_next = host_tsc + asks_every;
    asked->exit->reply = REPLY_ADVANCE;
    (void)call(HC_WAIT, 1);
}

/* One CPU does what is next, before `end`; false: nothing is. */
static bool cpus_step(u64 end) {
    if (look_at_all) look_at_all();
    unsigned first = 0;
    u64 soonest = ~0ull;
    for (now = 0; now < HOST_CPUS; now++)
        if (take_poke()) return true;
    for (now = 0; now < HOST_CPUS; now++)
        if (entered && !is_vm(entered)) {
            component_goes_on();
            return true;
        }
    for (now = 0; now < HOST_CPUS; now++)
        if (due() < soonest) first = now, soonest = due();
    now = first;
    if (soonest > end) return false;
    if (soonest > host_tsc) host_tsc = soonest;
    if (!entered) {
        wake();
    } else if (entered == asks && host_cpu.deadline > host_tsc) {
        next_out8(0x80);
        leave(REASON_IO);
    } else {
        sched_deadline();
        leave(REASON_EXTERNAL_INTERRUPT);
    }
    return true;
}

static void pass(u64 ticks) {
    u64 end = host_tsc + ticks;
    while (cpus_step(end))
        ;
    now = 0;
    if (host_tsc < end) host_tsc = end;
}

/* The control domain runs now, on CPU 0. */
static void wake_control(void) {
    now = 0;
    if (entered && entered->domain == control_domain) return;
    domain_signal(control_domain, 1ull << 40);
    if (entered)
        leave(REASON_EXTERNAL_INTERRUPT);
    else
        wake();
    while (now = 0, !entered || entered->domain != control_domain)
        if (!cpus_step(~0ull - 1)) panic("the control domain is not run");
}
#define control(...) (wake_control(), call(__VA_ARGS__))

/* What is shared by default, with these instead. */
#pragma GCC diagnostic ignored "-Woverride-init"
#define SHARE(...)                                                                                 \
    (struct vcpu_share) { .weight = WEIGHT_DEFAULT, .latency = 20 * MS, .cpus = ~0ull, __VA_ARGS__ }
static u32 share(u64 slot, struct vcpu_share asked) {
    wake_control();
    memcpy(control_domain->comm, &asked, sizeof(asked));
    return call(HC_VCPU_SHARE, slot);
}
#define CPU(n) (1ull << (n))

/* A VM of so many vCPUs, all of which are busy from now on; false: something was refused. */
static bool vm_make(unsigned pair, unsigned vcpus, u32 tenant) {
    bool ok = control(HC_DOMAIN_CREATE, MODEL(pair), ROLE_DEVICE_MODEL, 100, 64, tenant) == 0;
    ok &= control(HC_DOMAIN_CREATE, VM(pair), ROLE_VM, 200, 32, tenant) == 0;
    ok &= control(HC_VCPU_CREATE, MODEL_VCPU(pair), MODEL(pair), 0, 0) == 0;
    for (unsigned i = 0; i < vcpus; i++)
        ok &= control(HC_VCPU_CREATE, VM_VCPU(pair, i), VM(pair), i, MODEL(pair)) == 0;
    return ok;
}
static void vm_start(unsigned pair, unsigned vcpus) {
    bool ok = control(HC_VCPU_START, MODEL_VCPU(pair)) == 0;
    for (unsigned i = 0; i < vcpus; i++) {
        wake_control();
        set_state(VM_VCPU(pair, i));
        ok &= control(HC_VCPU_START, VM_VCPU(pair, i)) == 0;
    }
    if (!ok) panic("VM %u does not start", pair);
}
static void vm_busy(unsigned pair, unsigned vcpus, u32 tenant) {
    if (!vm_make(pair, vcpus, tenant)) panic("VM %u is not made", pair);
    vm_start(pair, vcpus);
}
static void vm_end(unsigned pair) {
    (void)control(HC_DOMAIN_DESTROY, VM(pair));
    (void)control(HC_DOMAIN_DESTROY, MODEL(pair));
}
