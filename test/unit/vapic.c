// with:
/* The local APIC's logic: priorities, ends of interrupt, destinations, modes, the timer's
 * arithmetic. */
#include "machine.h"

#define VCPUS 4

static struct domain vm;
static struct vcpu vcpus[VCPUS];
static u32 pages[VCPUS][PAGE_SIZE / sizeof(u32)] ALIGNED(PAGE_SIZE);

static void reset(unsigned count) {
    memset(&vm, 0, sizeof(vm));
    for (unsigned i = 0; i < VCPUS; i++) {
        struct vcpu *vcpu = &vcpus[i];
        timeout_cancel(&vcpu->apic.timer);
        memset(vcpu, 0, sizeof(*vcpu));
        vcpu->apic.page = pages[i];
        vcpu->domain = &vm;
        vcpu->home = this_cpu();
        vcpu->index = i;
        vcpu->extint = -1;
        vapic_reset(&vcpu->apic, i, VAPIC_BASE_RESET | (i ? 0 : APIC_BASE_BSP));
        if (i < count) vm.vcpus[vm.vcpu_count++] = vcpu;
    }
}

static void write(unsigned n, u32 reg, u32 value) {
    (void)vapic_page_write(&vcpus[n], 16 * reg, value);
}
static u32 read(unsigned n, u32 reg) { return vapic_page_read(&vcpus[n], 16 * reg); }

static void enable_all(void) {
    for (unsigned i = 0; i < vm.vcpu_count; i++)
        write(i, REG_SPURIOUS, SPURIOUS_ENABLE | 0xff);
}

/* What a vCPU would do before its next entry. */
static void take(unsigned n) {
    vapic_take_posted(&vcpus[n], atomic_swap(&vcpus[n].posted.requests, 0));
}

/* Bit n: vCPU n has the vector waiting; it is taken away. */
static u32 arrived(unsigned vector) {
    u32 who = 0;
    for (unsigned i = 0; i < vm.vcpu_count; i++) {
        take(i);
        u32 *word = &pages[i][4 * (REG_IRR + vector / 32)];
        who |= (*word >> vector % 32 & 1) << i;
        *word &= ~(1u << vector % 32);
        if (!*word) vcpus[i].apic.irr_any &= ~(1u << vector / 32);
    }
    return who;
}

static void test_priorities(void) {
    reset(1);
    struct vapic *apic = &vcpus[0].apic;
    write(0, REG_ICR, 1u << 18 | 0x41);
    check(!arrived(0x41), "nothing is accepted while software has it off");
    enable_all();
    bool in_order = true;
    for (unsigned round = 0; round < 2000; round++) {
        unsigned n = 1 + unit_random() % 20, last = 256;
        for (unsigned i = 0; i < n; i++)
            accept_own(&vcpus[0], 16 + unit_random() % 240);
        for (int vector; (vector = vapic_pending(apic)) >= 0; last = (unsigned)vector) {
            in_order &= (unsigned)vector < last;
            vapic_accept(apic, (unsigned)vector);
            int next = vapic_pending(apic); /* only a higher class would interrupt it */
            in_order &= next < 0;
            in_order &= vapic_priority(apic) == ((u32)vector & 0xf0);
            in_order &= end_of_interrupt(&vcpus[0]) == -1;
        }
        in_order &= !apic->irr_any && !apic->isr_any;
    }
    check(in_order, "the highest vector goes first, one at a time in a class");
    bool nested = true;
    for (unsigned class = 1; class < 16; class ++) {
        accept_own(&vcpus[0], 16 * class + 3);
        int vector = vapic_pending(apic);
        nested &= vector == (int)(16 * class + 3);
        vapic_accept(apic, (unsigned)vector);
    }
    for (unsigned class = 15; class > 0; class --) {
        nested &= vapic_priority(apic) == 16 * class;
        (void)end_of_interrupt(&vcpus[0]);
    }
    check(nested, "classes nest, and end from the highest");
    accept_own(&vcpus[0], 0x55);
    write(0, REG_TPR, 0x50);
    check(vapic_pending(apic) == -1 && read(0, REG_PPR) == 0x50, "TPR holds off its own class");
    write(0, REG_TPR, 0x4f);
    check(vapic_pending(apic) == 0x55, "but none above");
}

static void test_posted(void) {
    reset(1);
    enable_all();
    struct vapic *apic = &vcpus[0].apic;
    bool kept = true;
    for (unsigned vector = 16; vector < 256; vector++)
        vapic_post(&vcpus[0], vector, vector % 3 == 0);
    kept &= !apic->irr_any && vcpus[0].attention;
    take(0);
    for (unsigned vector = 255; vector >= 16; vector--) {
        kept &= vapic_highest(apic, REG_IRR, apic->irr_any) == (int)vector;
        vapic_accept(apic, vector);
        kept &= end_of_interrupt(&vcpus[0]) == (vector % 3 ? -1 : (int)vector);
    }
    check(kept, "all that is posted arrives once, levels with their trigger mode");
    vapic_post(&vcpus[0], 0x63, true);
    take(0);
    vapic_post(&vcpus[0], 0x63, false);
    take(0);
    vapic_accept(apic, 0x63);
    check(end_of_interrupt(&vcpus[0]) == -1, "the last trigger mode counts");
    write(0, REG_SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_NO_BROADCAST | 0xff);
    vapic_post(&vcpus[0], 0x63, true);
    take(0);
    vapic_accept(apic, 0x63);
    check(end_of_interrupt(&vcpus[0]) == -1, "EOI broadcasts can be suppressed");
    vapic_post(&vcpus[0], 15, false);
    take(0);
    write(0, REG_ERROR, 0);
    check(read(0, REG_ERROR) == ERROR_RECEIVE_ILLEGAL && !apic->irr_any, "a vector below 16");
    vcpu_post_startup(&vcpus[0], 0x12);
    vcpu_post_startup(&vcpus[0], 0x34);
    check(vcpus[0].posted.requests == (POSTED_STARTUP | 0x12 << POSTED_PAGE_SHIFT),
          "the first start-up IPI counts");
    vcpu_post_init(&vcpus[0]);
    check(vcpus[0].posted.requests == POSTED_INIT, "INIT makes it void");
    vcpu_post_startup(&vcpus[0], 0x56);
    check(vcpus[0].posted.requests == (POSTED_INIT | POSTED_STARTUP | 0x56 << POSTED_PAGE_SHIFT),
          "one behind INIT stays");
}

/* What the next entry injects. */
static u32 injected(struct vcpu *vcpu) {
    vcpu_attend(vcpu);
    u32 event = vmread32(VMCS_ENTRY_EVENT);
    vmwrite32(VMCS_ENTRY_EVENT, 0);
    return event;
}

static void test_attend(void) {
    reset(1);
    enable_all();
    struct vcpu *vcpu = &vcpus[0];
    struct vapic *apic = &vcpu->apic;
    vcpu->vmcs = kpage_alloc(0);
    vcpu->vmcs_address = hpa_of(vcpu->vmcs);
    vcpu->cpu = this_cpu();
    guest_load(vcpu);
    vmwrite64(VMCS_GUEST_RFLAGS, RFLAGS_IF);
    vmwrite64(VMCS_GUEST_CR0, CR0_PE);
    vapic_post(vcpu, 0x61, false);
    check(injected(vcpu) == (EVENT_VALID | 0x61) && !apic->irr_any && !vcpu->posted.vectors[1] &&
              vapic_priority(apic) == 0x60,
          "an edge goes to a guest that takes it at once");
    vapic_post(vcpu, 0x62, false);
    check(!injected(vcpu) && apic->irr_any, "one of the class in service waits");
    (void)end_of_interrupt(vcpu);
    check(injected(vcpu) == (EVENT_VALID | 0x62) && !apic->irr_any, "until that has ended");
    (void)end_of_interrupt(vcpu);
    vapic_post(vcpu, 0x71, false), vapic_post(vcpu, 0x72, false);
    check(injected(vcpu) == (EVENT_VALID | 0x72), "of two the higher one");
    (void)end_of_interrupt(vcpu);
    check(injected(vcpu) == (EVENT_VALID | 0x71), "then the other");
    (void)end_of_interrupt(vcpu);
    vmwrite64(VMCS_GUEST_RFLAGS, 0);
    vapic_post(vcpu, 0x81, false);
    check(!injected(vcpu) && vcpu->primary_controls & PRIMARY_INTERRUPT_WINDOW,
          "a guest with interrupts off gets a window");
    vmwrite64(VMCS_GUEST_RFLAGS, RFLAGS_IF);
    vmwrite32(VMCS_ENTRY_EVENT, EVENT_VALID | 0x55);
    vapic_post(vcpu, 0x91, false);
    check(injected(vcpu) == (EVENT_VALID | 0x55), "what waits for its entry goes first");
    check(injected(vcpu) == (EVENT_VALID | 0x91), "and nothing is lost");
    vcpu->activity = HALTED;
    vcpu->interruptible = true;
    vapic_post(vcpu, 0xa1, false);
    check(injected(vcpu) == (EVENT_VALID | 0xa1) && vcpu->activity == ACTIVE, "it ends HLT");
    while (end_of_interrupt(vcpu) >= 0 || apic->isr_any)
        ;
}

static u32 message(u32 destination, bool logical, unsigned mode) {
    vapic_message(&vm, 0xfee00000 | destination << 12 | (u32)logical << 2, mode << 8 | 0x61);
    return arrived(0x61);
}

static void test_destinations(void) {
    reset(4);
    enable_all();
    check(message(2, false, MODE_FIXED) == 4 && message(4, false, MODE_FIXED) == 0 &&
              message(0xff, false, MODE_FIXED) == 15,
          "physical: one, none, all");
    for (unsigned i = 0; i < 4; i++)
        write(i, REG_LDR, 1u << (24 + i));
    check(message(5, true, MODE_FIXED) == 5 && message(0xf0, true, MODE_FIXED) == 0 &&
              message(0xff, true, MODE_FIXED) == 15,
          "logical, flat: a bit each");
    for (unsigned i = 0; i < 4; i++) {
        write(i, REG_DFR, 0x0fffffff);
        write(i, REG_LDR, (i / 2 << 4 | 1u << i % 2) << 24);
    }
    check(message(0x03, true, MODE_FIXED) == 3 && message(0x12, true, MODE_FIXED) == 8 &&
              message(0x23, true, MODE_FIXED) == 0 && message(0xf1, true, MODE_FIXED) == 5,
          "logical, cluster: a cluster and bits in it");
    check(__builtin_popcount(message(0xff, true, MODE_LOWEST)) == 1, "lowest priority: one");
    write(0, REG_TPR, 0x30), write(1, REG_TPR, 0x20), write(2, REG_TPR, 0x10),
        write(3, REG_TPR, 0x30);
    check(message(0xff, true, MODE_LOWEST) == 4, "the one of the lowest priority");
    write(2, REG_SPURIOUS, 0xff);
    check(message(0xff, true, MODE_LOWEST) == 2, "which accepts at all");
    check(message(0xff, false, MODE_SMI) == 0 && message(0xff, false, MODE_EXTINT) == 0 &&
              message(0xff, false, 3) == 0,
          "other modes are no interrupt");
    vapic_message(&vm, 0xfee01000, MODE_NMI << 8);
    check(vcpus[1].posted.requests == POSTED_NMI, "an NMI");
    check(vapic_base_write(&vcpus[3], vcpus[3].apic.base & ~APIC_BASE_ENABLE) &&
              message(0xff, false, MODE_FIXED) == 3,
          "one that is off receives nothing");

    reset(4);
    for (unsigned i = 0; i < 4; i++)
        check(vapic_base_write(&vcpus[i], vcpus[i].apic.base | APIC_BASE_X2APIC), "x2APIC mode");
    for (unsigned i = 0; i < 4; i++)
        check(vapic_write(&vcpus[i], MSR_X2APIC_BASE + REG_SPURIOUS, 0x1ff), "is enabled");
    bool right = true;
    for (u32 set = 0; set < 16; set++) {
        right &=
            vapic_write(&vcpus[0], MSR_X2APIC_BASE + REG_ICR, (u64)set << 32 | 1u << 11 | 0x61);
        right &= arrived(0x61) == set;
        right &= vapic_write(&vcpus[0], MSR_X2APIC_BASE + REG_ICR, (u64)set << 32 | 0x61);
        right &= arrived(0x61) == (set < 4 ? 1u << set : 0);
    }
    right &= vapic_write(&vcpus[1], MSR_X2APIC_BASE + REG_ICR, ~0ull << 32 | 0x61);
    right &= arrived(0x61) == 15;
    right &= vapic_write(&vcpus[1], MSR_X2APIC_BASE + REG_ICR, 0xffull << 32 | 0x61);
    right &= arrived(0x61) == 0;
    right &= vapic_write(&vcpus[1], MSR_X2APIC_BASE + REG_ICR, 3u << 18 | 0x61);
    right &= arrived(0x61) == 13;
    check(right, "x2APIC destinations are of 32 bits");
}

static void test_modes(void) {
    static const struct {
        u64 from, to;
        bool allowed;
    } moves[] = {{0, 0, true}, {0, 2, true}, {0, 3, false}, {2, 0, true}, {2, 2, true},
                 {2, 3, true}, {3, 0, true}, {3, 2, false}, {3, 3, true}, {2, 1, false}};
    bool right = true;
    for (unsigned i = 0; i < ARRAY_SIZE(moves); i++) {
        reset(1);
        u64 base = 0xfee00000;
        if (moves[i].from == 0) right &= vapic_base_write(&vcpus[0], base);
        if (moves[i].from == 3) right &= vapic_base_write(&vcpus[0], base | 3u << 10);
        right &= vapic_base_write(&vcpus[0], base | moves[i].to << 10) == moves[i].allowed;
        right &= MODE(vcpus[0].apic.base) == (moves[i].allowed ? moves[i].to : moves[i].from);
    }
    check(right, "modes follow each other as the SDM says");
    reset(1);
    u64 value;
    check(!vapic_read(&vcpus[0], MSR_X2APIC_BASE + REG_ID, &value) &&
              !vapic_write(&vcpus[0], MSR_X2APIC_BASE + REG_EOI, 0),
          "no MSRs in xAPIC mode");
    check(vapic_has_page(&vcpus[0].apic, 0xfee00fff) && !vapic_has_page(&vcpus[0].apic, 0xfee01000),
          "a page");
    check(vapic_base_write(&vcpus[0], 0xfee00d00) && !vapic_has_page(&vcpus[0].apic, 0xfee00000),
          "no page in x2APIC mode");
    unsigned readable = 0, writable = 0;
    for (u32 reg = 0; reg < 0x100; reg++) {
        readable += vapic_read(&vcpus[0], MSR_X2APIC_BASE + reg, &value);
        writable += vapic_write(&vcpus[0], MSR_X2APIC_BASE + reg, 0);
    }
    check(readable == 42 && writable == 15, "so many registers, and no more");
    check(vapic_write(&vcpus[0], MSR_X2APIC_BASE + REG_LVT_LINT0, 0x15700) &&
              read(0, REG_LVT_LINT0) == 0x10700,
          "a status that is read-only may be written, and stays");
}

#define AT(ticks) (host_tsc = (ticks))

static void test_timer(void) {
    reset(1);
    enable_all();
    struct vapic *apic = &vcpus[0].apic;
    bool right = true;
    for (u32 code = 0; code < 8; code++) {
        write(0, REG_DIVIDE, (code & 3) | (code & 4) << 1);
        right &= divider(apic) == (code == 7 ? 1 : 2u << code);
    }
    check(right, "divisors");
    write(0, REG_DIVIDE, 2); /* by 8 */
    write(0, REG_LVT_TIMER, 0x61);
    AT(1000);
    write(0, REG_INITIAL_COUNT, 1000);
    u64 start = apic->count_start;
    check(apic->timer.armed && apic->timer.deadline == start + 8000, "one-shot: armed");
    AT(start + 4000);
    check(read(0, REG_CURRENT_COUNT) == 500, "half way");
    write(0, REG_DIVIDE, 0); /* by 2 */
    u32 left = read(0, REG_CURRENT_COUNT);
    check(left <= 500 && left > 480 && apic->timer.deadline < start + 4000 + 1100,
          "a divisor changes the pace, not the count");
    timer_expired(&vcpus[0]);
    check(!arrived(0x61), "not before its time");
    AT(start + 6000);
    check(read(0, REG_CURRENT_COUNT) == 0, "it stays at zero");
    timer_expired(&vcpus[0]);
    check(arrived(0x61) == 1 && apic->count_over, "then it fires");
    timer_expired(&vcpus[0]);
    check(!arrived(0x61), "once");
    write(0, REG_LVT_TIMER, TIMER_PERIODIC << 17 | 0x61);
    check(read(0, REG_CURRENT_COUNT) == 0, "periodic mode does not start it again");
    write(0, REG_INITIAL_COUNT, 10000);
    start = apic->count_start;
    AT(start + 70000);
    check(read(0, REG_CURRENT_COUNT) > 4900 && read(0, REG_CURRENT_COUNT) <= 5000, "it wraps");
    timer_expired(&vcpus[0]);
    check(arrived(0x61) == 1 && apic->count_start == start + 60000 &&
              apic->timer.deadline == start + 80000,
          "what was missed comes as one, the phase stays");
    write(0, REG_INITIAL_COUNT, 1);
    start = apic->count_start;
    AT(start + 3);
    timer_expired(&vcpus[0]);
    check(apic->timer.deadline >= start + tsc_hz / TIMER_RATE_MAX, "no storm of interrupts");
    write(0, REG_LVT_TIMER, TIMER_DEADLINE << 17 | 0x61);
    check(!apic->timer.armed && read(0, REG_INITIAL_COUNT) == 0, "another mode disarms it");
    vapic_deadline_write(&vcpus[0], 200000);
    check(apic->timer.armed && apic->timer.deadline == 200000, "deadline");
    vcpus[0].vmcs = kpage_alloc(0);
    vapic_tsc_write(&vcpus[0], rdtsc() + 50000);
    check(apic->timer.deadline < 150100, "it follows the guest's TSC");
}

int main(void) {
    strcpy(boot.command_line, "quiet apicv=off");
    machine_start();
    check(!virt_apic, "the command line switches APIC virtualization off");
    test_priorities();
    test_posted();
    test_attend();
    test_destinations();
    test_modes();
    test_timer();
    return unit_result();
}
