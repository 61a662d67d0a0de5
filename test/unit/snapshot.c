// with:
/* Saving and loading: what is saved and loaded is the same again, goes on, and whatever else is
   loaded ends in a status or as the guest's own harm. */
#include "control.h"

/* Slots of a pair from `at` on, and of what it has besides. */
enum { MODEL, VM, MEMORY, VCPU, VM_VCPU, VM_VCPU2, LINK, LINK2, PAIR = 10 };
enum { A = 100, B = A + PAIR, C = B + PAIR };
enum { EVENT_LINK = EVENT_FREE, EVENT_TIMER, EVENT_BELL, TIMER_SLOT = CAP_FREE };

static struct vcpu *vcpu_in(u64 slot) { return vcpu_of(control_domain->caps[slot].object); }

static void pair_make(u64 at) {
    bool ok = call(HC_DOMAIN_CREATE, at + MODEL, ROLE_DEVICE_MODEL, 100, 80) == STATUS_OK;
    ok &= call(HC_DOMAIN_CREATE, at + VM, ROLE_VM, 100, 16) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, at + MEMORY, 70) == STATUS_OK;
    ok &= call(HC_MEM_MAP, at + MODEL, at + MEMORY, GPA_RAM, 0, 20, RIGHT_READ | RIGHT_WRITE) == 0;
    ok &= call(HC_MEM_MAP, at + VM, at + MEMORY, 0, 20, 50, 7) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, at + VCPU, at + MODEL, 0, 0) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, at + VM_VCPU, at + VM, 0, at + MODEL) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, at + VM_VCPU2, at + VM, 1, at + MODEL) == STATUS_OK;
    ok &= call(HC_CAP_GRANT, at + MODEL, CAP_VM, at + VM, RIGHT_READ | RIGHT_INTERRUPT) == 0;
    ok &= call(HC_CAP_GRANT, at + MODEL, CAP_VCPU, at + VM_VCPU, RIGHT_ALL) == STATUS_OK;
    ok &= call(HC_CHANNEL_CREATE, at + LINK, at + LINK2) == STATUS_OK;
    ok &= call(HC_CAP_GRANT, at + MODEL, CAP_LINK, at + LINK2, RIGHT_ALL) == STATUS_OK;
    check(ok, "a VM with its device model is made");
}

static void pair_end(u64 at) {
    to_control();
    (void)call(HC_DOMAIN_DESTROY, at + VM);
    (void)call(HC_DOMAIN_DESTROY, at + MODEL);
    (void)call(HC_CAP_DROP, at + MEMORY);
    (void)call(HC_CAP_DROP, at + LINK);
    sound("sound after the pair");
}

static void to_model(u64 at) {
    to_control();
    domain_signal(domain_in(at + MODEL), 1ull << 40);
    while (entered->domain != domain_in(at + MODEL)) {
        host_tsc += 100;
        (void)call(HC_WAIT);
    }
}

static void to_vm(u64 at) {
    to_control();
    while (entered != vcpu_in(at + VM_VCPU)) {
        host_tsc += 100;
        (void)call(HC_WAIT);
    }
}

/* The device model has its timer, is bound to its link and waits; the VM runs. */
static void pair_start(u64 at) {
    set_state(at + VM_VCPU);
    (void)call(HC_DOORBELL, at + VM, 0x99, 7, EVENT_BELL);
    (void)call(HC_DOORBELL, at + VM, 0x98, DOORBELL_ANY, EVENT_BELL);
    (void)call(HC_VCPU_START, at + VCPU);
    to_model(at);
    bool ok = call(HC_TIMER_CREATE, TIMER_SLOT, EVENT_TIMER) == STATUS_OK;
    ok &= call(HC_CHANNEL_BIND, CAP_LINK, EVENT_LINK) == STATUS_OK;
    check(ok, "the device model has a timer and its link");
    (void)call(HC_WAIT);
    to_control();
    (void)call(HC_VCPU_START, at + VM_VCPU);
    (void)call(HC_VCPU_START, at + VM_VCPU2);
    to_vm(at);
}

/* --- all of a pair --- */

static struct saved {
    struct saved_domain domains[2]; /* VM, device model */
    u64 rows[2];
    u8 parts[3][PART_COUNT][PAGE_SIZE]; /* VM's two vCPUs, device model's */
    u64 bytes[3][PART_COUNT];
} saved, again;

static const u64 vcpu_slots[] = {VM_VCPU, VM_VCPU2, VCPU};

static bool save(u64 at, struct saved *to) {
    memset(to, 0, sizeof(*to));
    bool ok = true;
    for (unsigned d = 0; d < 2; d++) {
        ok &= call(HC_DOMAIN_SAVE, at + (d ? MODEL : VM)) == STATUS_OK;
        to->rows[d] = entered->gpr[2];
        memcpy(&to->domains[d], control_domain->comm,
               sizeof(struct domain_snapshot) + to->rows[d] * sizeof(struct saved_row));
    }
    for (unsigned v = 0; v < 3; v++)
        for (u64 part = 0; part < PART_COUNT; part++) {
            ok &= call(HC_VCPU_SAVE, at + vcpu_slots[v], part) == STATUS_OK;
            to->bytes[v][part] = entered->gpr[2];
            memcpy(to->parts[v][part], control_domain->comm, entered->gpr[2]);
        }
    return ok;
}

static u32 load_domain(u64 slot, const void *from, u64 rows) {
    memcpy(control_domain->comm, from, sizeof(struct saved_domain));
    return call(HC_DOMAIN_LOAD, slot, rows);
}

static u32 load_part(u64 slot, u64 part, const void *from, u64 bytes) {
    memcpy(control_domain->comm, from, bytes < PAGE_SIZE ? bytes : PAGE_SIZE);
    return call(HC_VCPU_LOAD, slot, part, bytes);
}

static bool load(u64 at, const struct saved *from) {
    bool ok = true;
    for (unsigned d = 0; d < 2; d++)
        ok &= load_domain(at + (d ? MODEL : VM), &from->domains[d], from->rows[d]) == STATUS_OK;
    for (unsigned v = 0; v < 3; v++)
        for (u64 part = 0; part < PART_COUNT; part++)
            if (from->bytes[v][part])
                ok &= load_part(at + vcpu_slots[v], part, from->parts[v][part],
                                from->bytes[v][part]) == STATUS_OK;
    return ok;
}

static bool same(const struct saved *a, const struct saved *b) {
    bool ok = true;
    for (unsigned d = 0; d < 2; d++)
        if (memcmp(&a->domains[d], &b->domains[d], sizeof(a->domains[d]))) {
            printf("# domain %u differs\n", d);
            ok = false;
        }
    for (unsigned v = 0; v < 3; v++)
        for (u64 part = 0; part < PART_COUNT; part++)
            for (u64 i = 0; i < PAGE_SIZE && ok; i++)
                if (a->parts[v][part][i] != b->parts[v][part][i]) {
                    printf("# vCPU %u part %lu byte %lu differs: %u, %u\n", v, part, i,
                           a->parts[v][part][i], b->parts[v][part][i]);
                    ok = false;
                }
    return ok;
}

static struct vcpu_snapshot *registers_of(struct saved *of, unsigned v) {
    return (struct vcpu_snapshot *)of->parts[v][PART_REGISTERS];
}

/* --- pausing --- */

static void test_pause(void) {
    pair_make(A);
    pair_start(A);
    struct domain *vm = domain_in(A + VM), *model = domain_in(A + MODEL);
    to_control();
    check(call(HC_DOMAIN_PAUSE, A + VM, 2) == STATUS_BAD_ARGUMENT,
          "PAUSE: alone or with its model");
    check(call(HC_DOMAIN_SAVE, A + VM) == STATUS_BAD_STATE &&
              call(HC_VCPU_SAVE, A + VM_VCPU, 0) == STATUS_BAD_STATE,
          "what runs is not saved");
    check(call(HC_DOMAIN_PAUSE, A + VM) == STATUS_OK && vm->state == DOMAIN_PAUSED &&
              model->state == DOMAIN_ACTIVE,
          "a VM pauses alone");
    check(call(HC_DOMAIN_PAUSE, A + VM) == STATUS_BAD_STATE, "once");
    check(call(HC_DOMAIN_PAUSE, A + VM, 1) == STATUS_OK && model->state == DOMAIN_PAUSED,
          "and its device model after it");
    check(call(HC_DOMAIN_PAUSE, A + VM, 1) == STATUS_BAD_STATE, "once");
    check(call(HC_DOMAIN_RESUME, A + MODEL) == STATUS_OK && model->state == DOMAIN_ACTIVE &&
              vm->state == DOMAIN_PAUSED,
          "a device model is resumed alone");
    check(call(HC_DOMAIN_RESUME, CAP_SELF) == STATUS_BAD_CAP, "no other component is");
    (void)call(HC_DOMAIN_RESUME, A + VM);

    to_model(A);
    u64 deadline = host_tsc + vcpu_in(A + VCPU)->tsc_offset + 50000;
    (void)call(HC_TIMER_SET, TIMER_SLOT, deadline);
    to_control();
    (void)call(HC_DOMAIN_PAUSE, A + VM, 1);
    check(!model->events && vm->paused_at == model->paused_at, "both at one time");
    u64 vm_time = vm->paused_at + vm->tsc_offset, model_time = model->paused_at + model->tsc_offset;
    host_tsc += 12345678;
    sched_deadline();
    check(!model->events, "a paused domain's timer stands still");
    (void)call(HC_DOMAIN_RESUME, A + VM);
    check(host_tsc + vm->tsc_offset - vm_time < 1000 &&
              host_tsc + model->tsc_offset - model_time < 1000 &&
              vcpu_in(A + VCPU)->tsc_offset == model->tsc_offset &&
              vcpu_in(A + VM_VCPU)->tsc_offset == vm->tsc_offset,
          "so does the time of both");
    u64 before = vcpu_in(A + VCPU)->tsc_offset;
    (void)call(HC_VCPU_GET, A + VM_VCPU);
    check(((struct vcpu_state *)control_domain->comm)->tsc_offset == vm->tsc_offset,
          "the host's components see the host's time");
    to_model(A);
    (void)call(HC_VCPU_GET, CAP_VCPU);
    check(((struct vcpu_state *)model->comm)->tsc_offset == vm->tsc_offset - model->tsc_offset &&
              before == model->tsc_offset && before,
          "a device model sees its VM's time from its own");
    (void)call(HC_WAIT);
    to_control();
    while (!(model->events >> EVENT_TIMER & 1) && host_tsc + model->tsc_offset < deadline + 60000) {
        host_tsc += 1000;
        sched_deadline();
    }
    check(model->events >> EVENT_TIMER & 1 &&
              host_tsc + model->tsc_offset + TIMER_ADVANCE >= deadline &&
              host_tsc + model->tsc_offset < deadline + 3000,
          "its timer fires in its own time");
    pair_end(A);
}

/* --- what is saved goes on elsewhere --- */

/* The VM has an exit open, for which its device model is in the midst of its handler. */
static void make_busy(u64 at) {
    struct vcpu *vcpu = vcpu_in(at + VM_VCPU);
    next_out8(0x80);
    leave(REASON_IO);
    check(entered->domain == domain_in(at + MODEL) && vcpu->state == VCPU_EXITED,
          "an exit is open");
    to_control(); /* the model answers nothing */
    domain_signal(domain_in(at + MODEL), 1ull << 55);
    vapic_post(vcpu_in(at + VM_VCPU2), 77, false);
    vapic_post(vcpu, 66, true);
    vcpu->nmi = 1;
    vcpu->stolen = 4711;
    vcpu->steal = 0x1001;
    vcpu->unswitched.lstar = ~0ull << 40;
    vcpu->unswitched.dr[2] = 0x1234;
    vcpu->mtrrs.fixed[4] = 0x0606060606060606ull;
    *vapic_reg(&vcpu->apic, REG_SPURIOUS) |= SPURIOUS_ENABLE;
    *vapic_reg(&vcpu->apic, REG_ISR + 3) |= 0x80;
    vapic_look_again(&vcpu->apic);
    vcpu->apic.deadline = 0;
    ((u8 *)vcpu->unswitched.xsave)[700] = 0x5a;
    memset(domain_in(at + MODEL)->comm, 0x3c, 999);
    vapic_tpr_write(vcpu, 0x50);
}

static void test_copy(void) {
    pair_make(A);
    pair_start(A);
    make_busy(A);
    to_control();
    (void)call(HC_DOMAIN_PAUSE, A + VM, 1);
    real_mode_reset(vcpu_in(A + VM_VCPU2), 0, 0, 0); /* as after INIT */
    vcpu_in(A + VM_VCPU2)->activity = WAIT_FOR_SIPI;
    check(save(A, &saved), "a pair is saved");
    check(saved.rows[0] == 2 && saved.rows[1] == 2 && saved.domains[0].rows[1].slot == 0x98 &&
              saved.domains[1].rows[0].kind == SAVED_BINDING &&
              saved.domains[1].rows[0].slot == CAP_LINK &&
              saved.domains[1].rows[1].kind == SAVED_TIMER &&
              saved.domains[1].rows[1].slot == TIMER_SLOT,
          "with doorbells, timers and bindings");
    check(saved.bytes[0][PART_APIC] == 1024 && saved.bytes[0][PART_VECTORS] == 832 &&
              !saved.bytes[0][PART_VECTORS_HIGH] && !saved.bytes[2][PART_APIC] &&
              saved.bytes[2][PART_COMM] == PAGE_SIZE && !saved.bytes[0][PART_COMM],
          "of each vCPU the parts that it has");
    save(A, &again);
    check(same(&saved, &again), "saving changes nothing");

    host_tsc += 1000000;
    pair_make(B);
    u64 timers = domain_in(B + MODEL)->caps_used;
    (void)call(HC_DOMAIN_PAUSE, B + VM, 1);
    check(load(B, &saved), "another pair is loaded with it");
    check(domain_in(B + MODEL)->caps_used == timers + 1, "it has a timer");
    check(save(B, &again) && same(&saved, &again), "and is the same");
    sound("sound with a copy");

    host_tsc += 777777;
    u64 begun = host_tsc;
    (void)call(HC_DOMAIN_RESUME, B + VM);
    struct domain *vm = domain_in(B + VM), *model = domain_in(B + MODEL);
    check(begun + model->tsc_offset - saved.domains[1].snapshot.tsc + 1000 < 2000 &&
              begun + vm->tsc_offset - saved.domains[0].snapshot.tsc + 1000 < 2000 &&
              vcpu_in(B + VM_VCPU)->tsc_offset == vm->tsc_offset,
          "its time goes on");
    struct vcpu *vcpu = vcpu_in(B + VM_VCPU);
    check(vcpu->state == VCPU_EXITED && model->events >> 55 & 1, "the exit is still open");
    to_model(B);
    vcpu->exit->reply = REPLY_ADVANCE;
    u64 rip = registers_of(&saved, 0)->registers[16];
    (void)call(HC_WAIT, 1);
    while (entered != vcpu)
        if (entered->domain->role == ROLE_VM)
            leave(REASON_PREEMPTION_TIMER);
        else
            (void)call(HC_WAIT);
    check(guest_rip(vcpu) == rip + 3, "and its device model answers it");
    check((entered_event & 0x7ff) == (EVENT_TYPE_NMI | VECTOR_NMI), "with the NMI that waited");
    check(model->info->tsc_hz == tsc_hz && model->info->domain_id == model->id &&
              ((u8 *)model->comm)[998] == 0x3c,
          "whose pages are there");
    to_control();
    check(call(HC_CHANNEL_SIGNAL, B + LINK) == STATUS_OK && model->events >> EVENT_LINK & 1,
          "its link is bound");
    check(vcpu->stolen_before >= 4711 && vcpu->stolen < 4711,
          "time that was stolen counts, as another one's");
    check(call(HC_DOMAIN_PAUSE, B + VM, 1) == STATUS_OK &&
              load_part(B + VM_VCPU, 0, saved.parts[0][0], saved.bytes[0][0]) == STATUS_BAD_STATE &&
              load_domain(B + VM, &saved.domains[0], 2) == STATUS_BAD_STATE,
          "what has run is not loaded");
    (void)call(HC_DOMAIN_RESUME, A + VM);
    pair_end(B);
    pair_end(A);
}

/* A single edge goes past the IRR, and past what gives the CPU a TPR that was written just now. */
static void test_tpr(void) {
    pair_make(A);
    pair_start(A);
    struct vcpu *vcpu = vcpu_in(A + VM_VCPU);
    if (!vapic_base_write(vcpu, vcpu->apic.base | APIC_BASE_X2APIC)) panic("x2APIC");
    vcpu->apic.delivers = false;
    *vapic_reg(&vcpu->apic, REG_SPURIOUS) |= SPURIOUS_ENABLE;
    leave(REASON_EXTERNAL_INTERRUPT);
    vapic_post(vcpu, 0xa1, false);
    vcpu->gpr[1] = MSR_X2APIC_BASE + REG_TPR, vcpu->gpr[0] = 0x50, vcpu->gpr[2] = 0;
    leave(REASON_WRMSR);
    check(entered == vcpu && (entered_event & 0x7ff) == 0xa1, "an edge is delivered");
    leave(REASON_EXTERNAL_INTERRUPT);
    check(*vapic_reg(&vcpu->apic, REG_TPR) == 0x50, "and the TPR is what was written");
    pair_end(A);
}

/* --- statuses --- */

static void test_refusals(void) {
    pair_make(A);
    (void)call(HC_DOMAIN_PAUSE, A + VM, 1);
    save(A, &saved);
    struct vcpu_snapshot *s = registers_of(&saved, 0);
    struct saved_domain *d = &saved.domains[1];
    check(call(HC_VCPU_SAVE, A + VM_VCPU, PART_COUNT) == STATUS_BAD_ARGUMENT &&
              load_part(A + VM_VCPU, PART_COUNT, s, 8) == STATUS_BAD_ARGUMENT,
          "no such part");
    check(load_part(A + VM_VCPU, 0, s, sizeof(*s) - 1) == STATUS_BAD_ARGUMENT &&
              load_part(A + VM_VCPU, 0, s, ~0ull) == STATUS_BAD_ARGUMENT &&
              load_part(A + VM_VCPU, PART_APIC, s, 1023) == STATUS_BAD_ARGUMENT &&
              load_part(A + VM_VCPU, PART_VECTORS, s, 575) == STATUS_BAD_ARGUMENT &&
              load_part(A + VM_VCPU, PART_VECTORS_HIGH, s, 8) == STATUS_BAD_ARGUMENT &&
              load_part(A + VCPU, PART_APIC, s, 1024) == STATUS_BAD_ARGUMENT,
          "nor such bytes of one");
    d->rows[0] = (struct saved_row){SAVED_BINDING, 50, 0, EVENT_LINK, 0};
    check(load_domain(A + MODEL, d, 1) == STATUS_BAD_CAP, "BINDING: no channel");
    d->rows[0] = (struct saved_row){SAVED_TIMER, CAP_VM, 0, EVENT_LINK, 0};
    check(load_domain(A + MODEL, d, 1) == STATUS_IN_USE, "TIMER: a taken slot");
    d->rows[0].slot = 80;
    check(load_domain(A + MODEL, d, 1) == STATUS_BAD_CAP, "TIMER: beyond its table");
    d->rows[0].slot = 70, d->rows[1] = d->rows[0];
    check(load_domain(A + MODEL, d, 2) == STATUS_BAD_ARGUMENT, "TIMER: one slot twice");
    check(load_domain(A + MODEL, d, 169) == STATUS_BAD_ARGUMENT, "too many rows");
    d->rows[0].event = EVENT_FREE - 1;
    check(load_domain(A + MODEL, d, 1) == STATUS_BAD_ARGUMENT, "TIMER: an event of the kernel");
    d->rows[0] = (struct saved_row){SAVED_DOORBELL, 70, 0, EVENT_BELL, 0};
    check(load_domain(A + MODEL, d, 1) == STATUS_BAD_ARGUMENT, "DOORBELL: a component");
    for (unsigned i = 0; i < 17; i++)
        d->rows[i] = d->rows[0];
    check(load_domain(A + VM, d, 17) == STATUS_BAD_ARGUMENT, "DOORBELL: too many");
    d->rows[0].slot = 0x10000;
    check(load_domain(A + VM, d, 1) == STATUS_BAD_ARGUMENT, "DOORBELL: no such port");
    struct domain *model = domain_in(A + MODEL);
    u32 quota = model->kernel_quota, pages = model->kernel_pages, caps = model->caps_used, used = 0;
    for (unsigned i = 0; i < 8; i++)
        d->rows[i] = (struct saved_row){SAVED_TIMER, 64 + i, 1, EVENT_LINK, 0};
    void *cells[2 * PAGE_SIZE / CELL_SIZE];
    kernel_pages_reserved -= quota - pages;
    for (model->kernel_quota = pages; model->free_cells;)
        cells[used++] = cell_alloc(model);
    for (unsigned i = 0; i < 3; i++)
        cell_free(model, cells[--used]);
    check(load_domain(A + MODEL, d, 8) == STATUS_NO_QUOTA && model->caps_used == caps,
          "of timers that the account cannot pay for none is left");
    while (used)
        cell_free(model, cells[--used]);
    model->kernel_quota = quota, kernel_pages_reserved += quota - pages;
    pair_end(A);
}

/* --- hostile bytes --- */

/* Each row makes a state that is refused: 4 or 8 bytes at an offset. */
#define AT(field) offsetof(struct vcpu_snapshot, field)
static const struct bad {
    const char *name;
    u32 at, size;
    u64 value;
} bad[] = {
    {"no such state", AT(state), 4, VCPU_FAILED},
    {"no such activity", AT(activity), 4, 3},
    {"unknown flags", AT(flags), 4, 16},
    {"a VM in WAIT", AT(flags), 4, SAVED_FLAG_WAITING},
    {"three NMIs", AT(nmis), 4, 3},
    {"a vector above 255", AT(extint), 4, 256},
    {"an NMI as an event", AT(event), 4, EVENT_VALID | EVENT_TYPE_NMI | 2},
    {"an event of type 1", AT(event), 4, EVENT_VALID | 1 << 8},
    {"an event of type 7", AT(event), 4, EVENT_VALID | 7 << 8},
    {"an exception above 31", AT(event), 4, EVENT_VALID | EVENT_TYPE_EXCEPTION | 32},
    {"reserved bits of an event", AT(event), 4, EVENT_VALID | EVENT_TYPE_EXCEPTION | 13 | 1 << 13},
    {"half an event", AT(event), 4, 13},
    {"an interrupt while IF is clear", AT(event), 4, EVENT_VALID | 77},
    {"INT n without a length", AT(event), 4, EVENT_VALID | 4 << 8 | 77},
    {"no such exit", AT(exit_type), 4, EXIT_CLOCK + 1},
    {"blocking by both", AT(blocking), 4, 3},
    {"LSTAR", AT(lstar), 8, 1ull << 47},
    {"CSTAR", AT(cstar), 8, 1ull << 63},
    {"KERNEL_GS_BASE", AT(kernel_gs_base), 8, 1ull << 48},
    {"SYSENTER_ESP", AT(sysenter_esp), 8, 1ull << 48},
    {"SYSENTER_EIP", AT(sysenter_eip), 8, 1ull << 48},
    {"PAT type 2", AT(pat), 8, 2},
    {"PAT type 8", AT(pat), 8, 8ull << 56},
    {"XCR0 without x87", AT(xcr0), 8, 2},
    {"XCR0 of another CPU", AT(xcr0), 8, 0xe7},
    {"APIC base: reserved", AT(apic_base), 8, 0xfee00a01},
    {"APIC base: x2APIC, off", AT(apic_base), 8, 0xfee00400},
    {"APIC base: beyond memory", AT(apic_base), 8, 1ull << 52 | 0xfee00800},
};

static void test_each_refusal(void) {
    pair_make(A);
    (void)call(HC_DOMAIN_PAUSE, A + VM, 1);
    save(A, &saved);
    struct vcpu_snapshot *s = registers_of(&saved, 0);
    s->registers[17] = s->blocking == 3 ? RFLAGS_IF : 0;
    check(load_part(A + VM_VCPU, 0, s, sizeof(*s)) == STATUS_OK, "a fresh state can be loaded");
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vcpu_snapshot t = *s;
        if (bad[i].at == AT(blocking)) t.registers[17] = RFLAGS_IF;
        memcpy((u8 *)&t + bad[i].at, &bad[i].value, bad[i].size);
        check(load_part(A + VM_VCPU, 0, &t, sizeof(t)) == STATUS_BAD_ARGUMENT, bad[i].name);
    }
    struct vcpu_snapshot *c = registers_of(&saved, 2);
    c->flags = SAVED_FLAG_ANSWERED;
    check(load_part(A + VCPU, 0, c, sizeof(*c)) == STATUS_BAD_ARGUMENT,
          "a component that is answered");
    c->flags = 0, c->state = VCPU_HALTED;
    check(load_part(A + VCPU, 0, c, sizeof(*c)) == STATUS_BAD_ARGUMENT, "a component in HLT");
    c->state = VCPU_EXITED;
    check(load_part(A + VCPU, 0, c, sizeof(*c)) == STATUS_BAD_ARGUMENT, "a component in an exit");
    c->state = VCPU_STOPPED;
    ((struct vcpu_state *)c->registers)->efer = EFER_SCE;
    check(load_part(A + VCPU, 0, c, sizeof(*c)) == STATUS_OK &&
              !(((struct vcpu_state *)(save(A, &again), registers_of(&again, 2)))->efer & EFER_SCE),
          "a component has no SYSCALL");
    pair_end(A);
}

static u64 any_bits(void) {
    switch (unit_random() % 4) {
    case 0: return unit_random();
    case 1: return unit_random() % 8;
    case 2: return 1ull << unit_random() % 64;
    default: return ~0ull << unit_random() % 64;
    }
}

static void damage(void *bytes, u64 size, unsigned times) {
    for (unsigned i = 0; i < times; i++) {
        u64 value = any_bits(), length = unit_random() % 2 ? 4 : 8;
        u64 at = unit_random() % (size / length) * length;
        memcpy((u8 *)bytes + at, &value, length);
    }
}

/* Registers that are what a load may take, about the last third of the time. */
static void make_plausible(struct vcpu_snapshot *s) {
    static const u32 types[] = {0, 0, 3, 3, 4, 6};
    s->state = unit_random() % 4;
    s->activity = unit_random() % 3;
    s->flags = unit_random() & VM_FLAGS;
    s->registers[17] = unit_random() & (RFLAGS_IF | RFLAGS_TF);
    s->registers[18] = unit_random() % 2 ? CR0_PE : CR0_PE | CR0_PG | (unit_random() & CR0_KNOWN);
    s->blocking = unit_random() % 4 ? 0 : unit_random();
    if (unit_random() % 2) {
        s->event = EVENT_VALID | types[unit_random() % 6] << 8 | (u32)(unit_random() % 40);
        s->event_error = (u32)unit_random();
        s->event_length = 1 + unit_random() % 16;
    }
    s->lstar = s->cstar = s->kernel_gs_base = (u64)((i64)unit_random() >> 17);
    s->posted_requests = (u32)unit_random();
}

/* Whatever is loaded: the next entries are the CPU's to refuse for the guest's sake only. */
static void test_hostile(void) {
    pair_make(C);
    (void)call(HC_DOMAIN_PAUSE, C + VM, 1);
    save(C, &saved);
    unsigned taken_ = 0, runs = 0, failed = 0;
    for (unsigned n = 0; n < 4000; n++) {
        static struct saved t;
        memcpy(&t, &saved, sizeof(t));
        t.domains[0].snapshot.started = 1;
        t.domains[0].snapshot.tsc = any_bits();
        t.domains[1].snapshot.tsc = any_bits();
        for (unsigned v = 0; v < 3; v++) {
            if (n % 3 && v < 2) make_plausible(registers_of(&t, v));
            if (n % 3 && v == 2) registers_of(&t, v)->state = VCPU_READY;
            damage(t.parts[v][0], sizeof(struct vcpu_snapshot), unit_random() % 3);
            for (u64 part = 1; part < PART_COUNT; part++)
                if (t.bytes[v][part]) damage(t.parts[v][part], t.bytes[v][part], unit_random() % 9);
        }
        for (unsigned d = 0; d < 2; d++)
            (void)load_domain(C + (d ? MODEL : VM), &t.domains[d], 0);
        bool ok = true;
        for (unsigned v = 0; v < 3; v++)
            for (u64 part = 0; part < PART_COUNT; part++)
                if (t.bytes[v][part])
                    ok &= load_part(C + vcpu_slots[v], part, t.parts[v][part], t.bytes[v][part]) ==
                          STATUS_OK;
        taken_ += ok;
        if (n % 50 == 0) sound("sound with what was loaded");
        (void)call(HC_DOMAIN_RESUME, C + VM);
        for (unsigned i = 0; i < 12 && domain_in(C + VM)->state == DOMAIN_ACTIVE; i++) {
            struct vcpu *vcpu = entered;
            runs += vcpu->domain == domain_in(C + VM);
            if (vcpu->domain->role == ROLE_VM)
                next_hostile(REASON_CPUID, false, 0), leave(REASON_CPUID);
            else if (vcpu->domain == domain_in(C + MODEL))
                (void)call(HC_WAIT, unit_random() % 3);
            else
                (void)call(HC_WAIT);
            host_tsc += 3000;
            if (entered->domain->role == ROLE_VM)
                sched_deadline(), leave(REASON_EXTERNAL_INTERRUPT);
        }
        to_control();
        failed += domain_in(C + VM)->state == DOMAIN_FAILED;
        if (domain_in(C + VM)->state == DOMAIN_FAILED ||
            call(HC_DOMAIN_PAUSE, C + VM, 1) != STATUS_OK) {
            pair_end(C);
            pair_make(C);
            (void)call(HC_DOMAIN_PAUSE, C + VM, 1);
        }
        for (unsigned v = 0; v < 3;
             v++) /* as if it had not run: it would take long to make others */
            vcpu_in(C + vcpu_slots[v])->run_time = 0;
        save(C, &again);
    }
    printf("# %u loads taken as a whole, %u entries of them, %u failed\n", taken_, runs, failed);
    check(taken_ > 500 && runs > 500, "some hostile states are taken, and run");
    pair_end(C);
}

int main(void) {
    machine_start();
    fixed = fixed_frames();
    (void)call(HC_CHANNEL_CREATE, A, B);
    (void)call(HC_CAP_DROP, A);
    u64 free_before = frame_free_count();
    test_pause();
    test_copy();
    test_tpr();
    test_refusals();
    test_each_refusal();
    test_hostile();
    check(frame_free_count() == free_before, "every frame has come back");
    return unit_result();
}
