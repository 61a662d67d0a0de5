// with:
/* A million random exits: hypercalls of control domain and device models, exits of VMs.
   usage: fuzz [STEPS [SEED [FROM]]]
   SEED 0 is the usual one. From step FROM on each step is shown, and all is looked at behind it. */
#define HOST_CPUS 4
#ifndef HOST_THREADS
#define HOST_THREADS 2
#endif
#define HOST_NODES 3
#include "invariants.h"

#define STEPS       1000000u
#define CHECK_EVERY 1000u
#define SLOTS       96u /* that the fuzz uses */

/* Random numbers are taken by calls, one after the other: `unit_random() % f()` leaves the order to
   the compiler, and a seed is to mean the same with and without sanitizers. */
static u64 below(u64 n) { return unit_random() % n; }

static bool one_in(unsigned n) { return below(n) == 0; }

static u64 pick(const u64 *values, size_t count) { return values[below(count)]; }
#define PICK(...) pick((const u64[]){__VA_ARGS__}, sizeof((const u64[]){__VA_ARGS__}) / sizeof(u64))

static u64 any_slot(void) {
    if (!one_in(50)) return below(SLOTS);
    u64 number = unit_random();
    return number >> below(64);
}

/* A used slot of this type, mostly. */
static u64 slot_of(const struct domain *d, u32 type) {
    u64 start = below(d->cap_slots);
    for (u64 i = 0; i < d->cap_slots && !one_in(40); i++) {
        u64 slot = (start + i) % d->cap_slots;
        if (d->caps[slot].object && d->caps[slot].object->type == type) return slot;
    }
    return any_slot();
}

static u64 empty_slot(const struct domain *d) {
    for (u64 slot = CAP_FREE; slot < SLOTS && slot < d->cap_slots; slot++)
        if (!d->caps[slot].object && !one_in(20)) return slot;
    return any_slot();
}

static u64 any_number(void) {
    return PICK(0, 1, 2, 3, 7, 16, 17, 63, 64, 255, 256, 512, 4095, 4096, 65535, 65536, 1u << 20,
                ~0u, 1ull << 47, ~0ull, ~0ull << 12, unit_random(), below(100));
}

static u64 any_gpa(void) {
    u64 base = PICK(0, GPA_COMM, GPA_IMAGE, GPA_RAM, GPA_EXIT, GPA_SHARED, GPA_GUEST,
                    EPT_ADDRESS_LIMIT - 8 * PAGE_SIZE, EPT_ADDRESS_LIMIT, ~0ull << 12);
    return base + below(16) * PAGE_SIZE + (one_in(30) ? 5 : 0);
}

#define MEMORY_PAGES 600u /* of a VM: a large page and some small ones */

static u64 any_event(void) {
    return one_in(20) ? any_number() : EVENT_FREE + below(64 - EVENT_FREE);
}

/* What was saved last, in parts: of a VM's vCPU, of a component's, and of each kind of domain. */
static struct {
    u64 bytes;
    u8 data[PAGE_SIZE];
} kept[2][PART_COUNT], kept_domain[2];

/* Rows and parts go back in as they were, or with a few words of them changed. */
static void fill_saved(struct domain *d, u64 number, u64 a[6]) {
    const struct cap *cap = a[0] < d->cap_slots ? &d->caps[a[0]] : NULL;
    bool vcpu = number == HC_VCPU_LOAD;
    if (!cap || !cap->object || cap->object->type != (vcpu ? OBJECT_VCPU : OBJECT_DOMAIN)) return;
    bool vm = domain_is_vm(vcpu ? vcpu_of(cap->object)->domain : domain_of(cap->object));
    u64 part = a[1] < PART_COUNT ? a[1] : 0;
    memcpy(d->comm, vcpu ? kept[vm][part].data : kept_domain[vm].data, PAGE_SIZE);
    if (!one_in(20)) a[vcpu ? 2 : 1] = vcpu ? kept[vm][part].bytes : kept_domain[vm].bytes;
    for (u64 i = unit_random() % 8 / 3; i; i--)
        ((u32 *)d->comm)[unit_random() % (vcpu ? 288 : 64)] = (u32)any_number();
}

static void keep_saved(const struct domain *d, u64 number, const u64 a[6], u64 value) {
    const struct object *object = d->caps[a[0]].object;
    if (number == HC_DOMAIN_SAVE) {
        bool vm = domain_is_vm((const struct domain *)object);
        kept_domain[vm].bytes = value;
        memcpy(kept_domain[vm].data, d->comm, PAGE_SIZE);
    } else if (value) {
        bool vm = domain_is_vm(container_of(object, const struct vcpu, object)->domain);
        kept[vm][a[1]].bytes = value;
        memcpy(kept[vm][a[1]].data, d->comm, PAGE_SIZE);
    }
}

static void fill_comm(struct domain *d, u64 number, u64 a[6]) {
    u64 *words = d->comm;
    if (number == HC_DOMAIN_LOAD || number == HC_VCPU_LOAD) {
        fill_saved(d, number, a);
        return;
    }
    if (number == HC_VCPU_SET) {
        struct vcpu_state *state = d->comm;
        memset(state, 0, sizeof(*state));
        state->cr0 = CR0_PE | (one_in(4) ? unit_random() : 0);
        state->cr4 = one_in(4) ? unit_random() : 0;
        state->efer = one_in(4) ? unit_random() : 0;
        state->rflags = unit_random() & RFLAGS_IF;
    } else if (number == HC_VCPU_SHARE && !one_in(8)) {
        struct vcpu_share *share = d->comm;
        u64 limited = one_in(2) ? tsc_hz : 0;
        *share = (struct vcpu_share){.scheduling = below(3),
                                     .weight = below(300),
                                     .latency = tsc_hz / (1 + below(1000)),
                                     .cpus = one_in(2) ? ~0ull : unit_random()};
        if (share->scheduling == CLASS_RESERVED || (limited && share->scheduling == CLASS_SHARED)) {
            share->period = tsc_hz / (1 + below(1000));
            share->budget = share->period / (1 + below(10));
        }
    } else if (one_in(8)) {
        for (unsigned i = 0; i < 64; i++)
            words[i] = unit_random();
    }
}

/* Control's way to a VM with its device model, in slots from `s` on; other calls come between. */
static unsigned script_step, script_pair;
/* True: that was the last. */
static bool script_next(struct domain *control, u64 *number, u64 a[6]) {
    u64 s = 100 + 10 * (script_pair % 4);
    const u64 model = s, vm = s + 1, memory = s + 2, vcpu = s + 3, vm_vcpu = s + 4;
    const u64 pages = GPA_RAM >> PAGE_SHIFT, t = 100 + 10 * ((script_pair + 1) % 4);
    const u64 script[][7] = {
        {HC_DOMAIN_DESTROY, vm},
        {HC_DOMAIN_DESTROY, model},
        {HC_CAP_DROP, memory},
        {HC_CAP_DROP, s + 5},
        {HC_DOMAIN_CREATE, model, ROLE_DEVICE_MODEL, 200, 64, script_pair % 3},
        {HC_DOMAIN_CREATE, vm, ROLE_VM, 200, 16, script_pair % 3},
        {HC_MEM_CREATE, memory, MEMORY_PAGES, script_pair % 2 ? vm : 0, script_pair % HOST_NODES},
        {HC_MEM_MAP, model, memory, pages << PAGE_SHIFT, 0, MEMORY_PAGES, RIGHT_READ | RIGHT_WRITE},
        {HC_MEM_MAP, vm, memory, 0, 0, MEMORY_PAGES, RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE},
        {HC_VCPU_CREATE, vcpu, model, 0, 0},
        {HC_VCPU_CREATE, vm_vcpu, vm, 0, model},
        {HC_CAP_GRANT, model, CAP_VM, vm, RIGHT_READ | RIGHT_WRITE | RIGHT_INTERRUPT},
        {HC_CAP_GRANT, model, CAP_MEMORY, memory, RIGHT_READ | RIGHT_WRITE},
        {HC_CAP_GRANT, model, CAP_VCPU, vm_vcpu, RIGHT_CONTROL | RIGHT_INTERRUPT | RIGHT_READ},
        {HC_MEM_CLONE, s + 5, memory, script_pair % 2 ? 0 : vm, 8, 1},
        {HC_MEM_PROMISE, memory, script_pair % 5 * 100},
        {HC_VCPU_SHARE, vm_vcpu},
        {HC_DOMAIN_PAUSE, t + 1, 1}, /* an older pair, which this one is to be like */
        {HC_DOMAIN_SAVE, t},
        {HC_DOMAIN_SAVE, t + 1},
        {HC_VCPU_SAVE, t + 3, PART_REGISTERS},
        {HC_VCPU_SAVE, t + 4, PART_REGISTERS},
        {HC_VCPU_SAVE, t + 4, PART_APIC},
        {HC_VCPU_SAVE, t + 4, PART_EXIT},
        {HC_VCPU_SAVE, t + 4, PART_VECTORS},
        {HC_DOMAIN_RESUME, t + 1},
        {HC_DOMAIN_PAUSE, vm, 1},
        {HC_DOMAIN_LOAD, model},
        {HC_DOMAIN_LOAD, vm},
        {HC_VCPU_LOAD, vcpu, PART_REGISTERS},
        {HC_VCPU_LOAD, vm_vcpu, PART_REGISTERS},
        {HC_VCPU_LOAD, vm_vcpu, PART_APIC},
        {HC_VCPU_LOAD, vm_vcpu, PART_EXIT},
        {HC_VCPU_LOAD, vm_vcpu, PART_VECTORS},
        {HC_DOMAIN_RESUME, vm},
        {HC_VCPU_SET, vm_vcpu},
        {HC_VCPU_START, vcpu},
        {HC_VCPU_START, vm_vcpu},
    };
    /* Every other pair is new. */
    if (script[script_step][0] == HC_DOMAIN_PAUSE && script_pair % 2 == 0)
        while (script[script_step][0] != HC_VCPU_SET)
            script_step++;
    if (control->caps[memory].object && script[script_step][0] == HC_MEM_CREATE &&
        memory_of(control->caps[memory].object)->clean ==
            memory_of(control->caps[memory].object)->pages)
        script_step++;
    *number = script[script_step][0];
    memcpy(a, &script[script_step][1], 6 * sizeof(u64));
    if (*number != HC_MEM_CREATE || one_in(5)) /* it is to be called again */
        script_step++;
    if (script_step < ARRAY_SIZE(script)) return false;
    script_step = 0;
    script_pair++;
    return true;
}

static u32 at_step, show_from = ~0u;
static u64 loads;

static void call_random(struct domain *d, u64 number, u64 a[6]) {
    if (at_step >= show_from)
        printf("# %u: CPU %u, domain %u calls %lu(%lx, %lx, %lx, %lx, %lx, %lx)\n", at_step, now,
               d->id, number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == HC_TRAP || one_in(1000))
        host_tsc += 2 * tsc_hz; /* so that the control domain may be restarted */
    fill_comm(d, number, a);
    struct vcpu *caller = entered;
    u64 *r = caller->gpr;
    r[0] = number, r[7] = a[0], r[6] = a[1], r[2] = a[2], r[10] = a[3], r[8] = a[4], r[9] = a[5];
    leave(REASON_VMCALL);
    if (entered != caller || r[0]) return;
    if (number == HC_VCPU_LOAD || number == HC_DOMAIN_LOAD) loads++;
    if (number == HC_VCPU_SAVE || number == HC_DOMAIN_SAVE) keep_saved(d, number, a, r[2]);
}

static bool late; /* the control domain may now lose what it cannot go on without */

static void component_acts(void) {
    struct domain *d = entered->domain;
    u64 number = below(HC_COUNT), a[6];
    static unsigned rest; /* between two pairs */
    if (d == control_domain && !rest && one_in(2)) {
        if (script_next(d, &number, a)) rest = 30;
        call_random(d, number, a);
        return;
    }
    if (d == control_domain && rest && !one_in(3)) {
        rest--;
        number = HC_WAIT;
    }
    if (d != control_domain && one_in(2)) number = HC_WAIT;
    if (number == HC_TRAP && !one_in(50)) number = HC_NULL;
    if (d->vm && one_in(8)) /* a device model with a balloon */
        number = HC_MEM_RELEASE;
    for (unsigned i = 0; i < 6; i++)
        a[i] = any_number();
    switch (number) {
    case HC_WAIT: a[0] = below(4); break;
    case HC_ANSWER: a[0] = below(3); break;
    case HC_LOG:
    case HC_TRAP: a[0] = below(600); break;
    case HC_CAP_GRANT:
        a[0] = slot_of(d, OBJECT_DOMAIN);
        a[1] = one_in(3) ? CAP_VCPU : any_slot();
        a[2] = any_slot();
        a[3] = one_in(2) ? RIGHT_ALL : unit_random();
        break;
    case HC_CAP_REVOKE:
    case HC_CAP_DROP: /* rarely what the others need to stay interesting */
        a[0] = any_slot();
        if (a[0] < CAP_FREE && !(late && one_in(500))) a[0] = CAP_FREE + below(32);
        break;
    case HC_DOMAIN_CREATE:
        a[0] = empty_slot(d);
        a[1] = 1 + below(3);
        a[2] = one_in(10) ? any_number() : 8 + below(60);
        a[3] = one_in(10) ? any_number() : 16 + below(90);
        break;
    case HC_BRAKE:
        a[0] = below(4);
        a[1] = one_in(2) ? below(50) : 0;
        a[2] = one_in(2) ? below(5) : 0;
        a[3] = one_in(2) ? below(20) : 0;
        a[4] = one_in(2) ? below(200) : 0;
        break;
    case HC_PARTITION:
        a[0] = below(4);
        a[1] = one_in(10) ? any_number() : below(9);
        a[2] = one_in(10) ? any_number() : (2u << below(11)) - (1u << below(3));
        a[3] = one_in(10) ? any_number() : below(95);
        break;
    case HC_MEM_CREATE:
        a[0] = one_in(4) ? slot_of(d, OBJECT_MEMORY) : empty_slot(d);
        a[1] = one_in(10) ? any_number() : 1 + below(one_in(20) ? 700 : 40);
        a[2] = one_in(3) ? slot_of(d, OBJECT_DOMAIN) : 0;
        a[3] = one_in(10) ? any_number() : below(HOST_NODES);
        break;
    case HC_MEM_RELEASE:
        a[0] = d == control_domain ? slot_of(d, OBJECT_MEMORY) : CAP_MEMORY;
        a[1] = one_in(10) ? any_number() : below(MEMORY_PAGES);
        a[2] = one_in(10) ? any_number() : 1 + below(one_in(4) ? 600 : 4);
        if (one_in(4)) { /* whole large pages */
            a[1] &= ~511ull;
            a[2] = 512;
        }
        break;
    case HC_MEM_CLONE:
        a[0] = empty_slot(d);
        a[1] = slot_of(d, OBJECT_MEMORY);
        a[2] = one_in(2) ? slot_of(d, OBJECT_DOMAIN) : 0;
        a[3] = one_in(10) ? any_number() : 2 + unit_random() % 14;
        a[4] = one_in(10) ? any_number() : below(HOST_NODES);
        break;
    case HC_MEM_NODES:
        a[0] = slot_of(d, OBJECT_MEMORY);
        a[1] = one_in(10) ? any_number() : below(MEMORY_PAGES);
        break;
    case HC_MEM_PROMISE:
        a[0] = slot_of(d, OBJECT_MEMORY);
        a[1] = one_in(10) ? any_number() : unit_random() % MEMORY_PAGES;
        break;
    case HC_MEM_DIFF:
        a[0] = slot_of(d, OBJECT_MEMORY);
        a[1] = one_in(3) ? 0 : slot_of(d, OBJECT_MEMORY);
        a[2] = one_in(10) ? any_number() : unit_random() % MEMORY_PAGES;
        break;
    case HC_MEM_MAP:
        a[0] = slot_of(d, OBJECT_DOMAIN);
        a[1] = slot_of(d, OBJECT_MEMORY);
        a[2] = any_gpa();
        a[3] = one_in(3) ? below(8) : 0;
        a[4] = one_in(10) ? any_number() : 1 + below(one_in(4) ? 1200 : 8);
        a[5] = one_in(10) ? any_number() : 1 + below(7);
        break;
    case HC_MEM_UNMAP: {
        a[0] = slot_of(d, OBJECT_DOMAIN);
        const struct cap *cap = a[0] < d->cap_slots ? &d->caps[a[0]] : NULL;
        const struct mapping *m = cap && cap->object && cap->object->type == OBJECT_DOMAIN
                                      ? domain_of(cap->object)->mappings
                                      : NULL;
        a[1] = m && !one_in(10) ? m->start.v : any_gpa();
        a[2] = m && !one_in(10) ? m->pages : any_number();
        break;
    }
    case HC_VCPU_CREATE:
        a[0] = empty_slot(d);
        a[1] = slot_of(d, OBJECT_DOMAIN);
        a[2] = one_in(10) ? any_number() : below(3);
        a[3] = one_in(3) ? 0 : slot_of(d, OBJECT_DOMAIN);
        break;
    case HC_VCPU_SET:
    case HC_VCPU_GET:
    case HC_VCPU_SHARE:
    case HC_VCPU_START:
    case HC_VCPU_STOP:
    case HC_VCPU_INFO: a[0] = slot_of(d, OBJECT_VCPU); break;
    case HC_VCPU_INTERRUPT:
        a[0] = slot_of(d, OBJECT_VCPU);
        a[1] = below(4);
        a[2] = below(260);
        break;
    case HC_MSI:
        a[1] = 0xfee00000 | below(0x100000);
        a[2] = unit_random() & 0xffff;
        a[0] = slot_of(d, OBJECT_DOMAIN);
        break;
    case HC_APIC_ACCESS:
        a[0] = slot_of(d, OBJECT_VCPU);
        a[1] = 0xfee00000 + (one_in(4) ? below(0x1010) : below(0x40) * 16);
        a[3] = unit_random() & 1;
        break;
    case HC_DOMAIN_DESTROY: a[0] = one_in(10) ? slot_of(d, OBJECT_DOMAIN) : any_slot(); break;
    case HC_DOMAIN_PAUSE:
        a[0] = slot_of(d, OBJECT_DOMAIN);
        a[1] = one_in(10) ? any_number() : unit_random() & 1;
        break;
    case HC_VCPU_SAVE:
    case HC_VCPU_LOAD:
        a[0] = slot_of(d, OBJECT_VCPU);
        a[1] = one_in(10) ? any_number() : unit_random() % PART_COUNT;
        a[2] = unit_random() % 1200;
        break;
    case HC_DOMAIN_SAVE:
    case HC_DOMAIN_LOAD:
    case HC_DOMAIN_RESUME:
    case HC_DOMAIN_INFO:
    case HC_DOORBELL:
    case HC_PORTS_MAP:
    case HC_CPUID_SET: a[0] = slot_of(d, OBJECT_DOMAIN); break;
    case HC_CHANNEL_CREATE: a[0] = empty_slot(d), a[1] = any_slot(); break;
    case HC_CHANNEL_BIND: a[0] = slot_of(d, OBJECT_CHANNEL), a[1] = any_event(); break;
    case HC_CHANNEL_SIGNAL: a[0] = slot_of(d, OBJECT_CHANNEL); break;
    case HC_TIMER_CREATE: a[0] = empty_slot(d), a[1] = any_event(); break;
    case HC_TIMER_SET:
        a[0] = slot_of(d, OBJECT_TIMER);
        a[1] = one_in(4) ? any_number() : host_tsc + below(10000);
        break;
    case HC_IRQ_CREATE: a[0] = empty_slot(d), a[1] = below(17), a[2] = any_event(); break;
    case HC_IRQ_ACK: a[0] = slot_of(d, OBJECT_IRQ); break;
    case HC_UPGRADE: a[0] = one_in(3) ? slot_of(d, OBJECT_MEMORY) : 0; break;
    }
    call_random(d, number, a);
}

/* The device model may write anything to the exit page, at any time. */
static void scribble_exit_pages(void) {
    for (struct domain *d = domains; d; d = d->next)
        for (u32 i = 0; i < MAX_VCPUS; i++) {
            struct exit_message *m = d->vcpus[i] ? d->vcpus[i]->exit : NULL;
            for (unsigned w = 0; m && w < sizeof(*m) / 8; w++)
                ((u64 *)m)[w] = one_in(3) ? unit_random() : below(4);
        }
}

/* Exits that the kernel has no name for: each ends a VM. */
enum { TASK_SWITCH = 9, EPT_MISCONFIGURATION = 49 };

/* Mostly in a VM's memory, from `start` on. */
static u64 any_touch(u64 start) {
    return one_in(4) ? any_gpa() : start + below(MEMORY_PAGES * PAGE_SIZE);
}

static void vm_acts(void) {
    static const u32 reasons[] = {
        REASON_EXCEPTION,
        REASON_EXTERNAL_INTERRUPT,
        REASON_INTERRUPT_WINDOW,
        REASON_NMI_WINDOW,
        REASON_CPUID,
        REASON_HLT,
        REASON_VMCALL,
        REASON_CR_ACCESS,
        REASON_IO,
        REASON_RDMSR,
        REASON_WRMSR,
        REASON_WRMSR,
        REASON_XSETBV,
        REASON_PAGE,
        REASON_PREEMPTION_TIMER,
        REASON_INVD,
        REASON_RDPMC,
        REASON_VMXON,
        REASON_INVVPID,
    };
    u64 *r = entered->gpr;
    u32 reason = reasons[below(ARRAY_SIZE(reasons))];
    if (one_in(300))
        reason = PICK(REASON_TRIPLE_FAULT, TASK_SWITCH, REASON_INVALID_STATE | REASON_ENTRY_FAILED,
                      EPT_MISCONFIGURATION, 100);
    /* What has been delivered may have been cut short. */
    bool short_cut = (reason == REASON_EXCEPTION || reason == REASON_PAGE) && one_in(3) &&
                     (entered_event & EVENT_VALID);
    next_hostile(reason, short_cut, any_touch(0));
    for (unsigned i = 0; i < 16; i++)
        r[i] = one_in(2) ? below(64) : any_number();
    if (reason == REASON_RDMSR || reason == REASON_WRMSR) {
        r[1] = PICK(0x800 + below(0x40), 0x830, 0x80b, 0x838, 0x832, MSR_EFER, MSR_IA32_TSC,
                    MSR_IA32_TSC_DEADLINE, 0x200 + below(0x70));
        r[0] = one_in(2) ? below(0x300) : unit_random();
        r[2] = one_in(3) ? unit_random() : below(3);
        if (one_in(20)) {
            r[1] = MSR_KVM_WALL_CLOCK + below(4);
            r[0] = PICK(1, 0x1001, 0x2041, 0x3000, 0xfffffff1);
            r[2] = one_in(4) ? unit_random() : 0;
        }
        if (one_in(20)) {
            r[1] = MSR_IA32_APIC_BASE;
            r[0] = 0xfee00000 | below(16) << 8;
            r[2] = 0;
        }
    }
    if (one_in(200)) host_tsc += below(tsc_hz / 10);
    if (at_step >= show_from)
        printf("# %u: CPU %u, domain %u exits: %u\n", at_step, now, entered->domain->id, reason);
    leave(reason);
}

/* Chooses who goes on: a CPU that runs a guest, or has something to wake up for. */
static bool next_cpu(void) {
    for (unsigned tries = 0; tries < 100; tries++) {
        now = (unsigned)below(HOST_CPUS);
        if (one_in(2) && take_poke()) return true;
        if (entered) return true;
        if (host_timer <= host_tsc) wake();
    }
    u64 first = TIMER_OFF; /* all are idle */
    for (now = 0; now < HOST_CPUS; now++)
        if (!entered && host_timer < first) first = host_timer;
    now = 0;
    if (first < host_tsc + (1ull << 40)) {
        host_tsc = first > host_tsc ? first : host_tsc;
        return true;
    }
    if (control_domain->state != DOMAIN_ACTIVE) return false;
    now = (unsigned)(control_domain->vcpus[0]->home - cpus); /* its interrupt comes there */
    domain_signal(control_domain, 1ull << 63);
    if (!entered) wake();
    return true;
}

static void finish(u64 free_before, u64 fixed) {
    now = 0; /* which does it between two guests */
    host[0].in_kernel = true;
    if (host_cpu.current != control_domain->vcpus[0]) host_cpu.current = entered = NULL;
    /* Control, whatever is left of it, drops all that it may drop. */
    for (u32 slot = CAP_ROOT + 1; slot < control_domain->cap_slots; slot++)
        if (control_domain->caps[slot].object) cap_delete(&control_domain->caps[slot]);
    bool trial = image_confirm();
    (void)trial;
    /* It may have been given one more, and not have started yet. */
    if (images.before != images.booted && images.before != images.current)
        memory_destroy(images.before);
    if (images.current != images.booted) {
        memory_unmap_below(control_domain, gpa(GPA_RAM));
        memory_destroy(images.current);
        images.current = images.booted;
    }
    check(domains == control_domain && !domains->next, "all domains are gone");
    const char *wrong = kernel_wrong(fixed);
    check(!wrong, wrong ? wrong : "the kernel is sound when all is destroyed");
    u64 cells = 0;
    for (const struct cell_page *page = domains->cell_pages; page; page = page->next)
        cells++;
    /* Control's account keeps its pages of cells, and its I/O bitmap. */
    u64 kept = cells - 1 + (domains->io_bitmap ? 1u << IO_BITMAP_ORDER : 0);
    check(frame_free_count() + kept >= free_before, "every frame comes back");
}

int main(int argc, char **argv) {
    u32 steps = argc > 1 ? (u32)strtoul(argv[1], NULL, 0) : STEPS;
    u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
    unit_random_state ^= seed;
    if (argc > 3) show_from = (u32)strtoul(argv[3], NULL, 0);
    printf("# seed %lu\n", seed);
    host_ways = 11;
    host_delay = 90;
    machine_start();
    u64 fixed = fixed_frames(), free_before = frame_free_count(), vm_exits = 0, model_calls = 0;
    u64 on_others = 0;
    u32 most = 0;
    bool alive = true;
    for (at_step = 0; at_step < steps && alive; at_step++) {
        if (at_step % CHECK_EVERY == 0 || at_step >= show_from) {
            const char *wrong = kernel_wrong(fixed);
            if (wrong) {
                printf("FAIL at step %u: %s\n", at_step, wrong);
                return 1;
            }
            u32 count = 0;
            for (const struct domain *d = domains; d; d = d->next)
                count++;
            most = count > most ? count : most;
        }
        if (one_in(3)) scribble_exit_pages();
        late = at_step > steps / 10 * 9;
        alive = next_cpu();
        if (!alive || !entered) continue;
        on_others += now > 0;
        bool vm = entered->domain->role == ROLE_VM;
        vm_exits += vm;
        model_calls += !vm && entered->domain != control_domain;
        if (vm)
            vm_acts();
        else if (one_in(100))
            leave(REASON_PREEMPTION_TIMER);
        else if (entered->domain != control_domain && one_in(5)) {
            u32 access = (u32)PICK(RIGHT_READ, RIGHT_WRITE);
            next_page(one_in(50) ? any_gpa() : any_touch(GPA_RAM), access);
            leave(REASON_PAGE);
        } else
            component_acts();
    }
    printf("# %lu exits of VMs, %lu calls of other components, %u domains at once, %u restarts, "
           "%lu steps of other CPUs, %lu loads\n",
           vm_exits, model_calls, most, control_domain->info->restarts, on_others, loads);
    check(alive, "the machine still runs");
    check(on_others > steps / 100, "all CPUs took part");
    check(loads > steps / 1000, "what was saved was loaded");
    check(vm_exits > steps / 100 && model_calls > steps / 100, "VMs and components took part");
    finish(free_before, fixed);
    return unit_result();
}
