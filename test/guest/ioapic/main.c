/* The I/O APIC: its registers, edges, levels with remote IRR and ends, masks, destinations. With
   `debugExit` a port for each input sets its level. */
#include "chips.h"

const char title[] = "ioapic";

#define LINES     0x2000
#define EDGE_PIN  21
#define LEVEL_PIN 22
#define EDGE      0x51
#define LEVEL     0x61
#define LOGICAL   (1u << 11)
#define NMI       (4u << 8)
#define EXTINT    (7u << 8)
#define EOI       (0x40 / 4)

static volatile u32 *io;
static volatile u32 edges, levels, nmis;
static volatile u32 releases; /* the level falls at its handler's so many-th call */
static volatile bool ends = true;

static void line(unsigned pin, bool up) { out8((u16)(LINES + pin), up); }
static void pulse(unsigned pin) {
    line(pin, true);
    line(pin, false);
}
static u32 entry(unsigned pin) { return ioapic_read(io, 0x10 + 2 * pin); }

static void on_edge(struct frame *frame) {
    (void)frame;
    edges++;
    wrmsr(APIC_EOI, 0);
}

static void on_level(struct frame *frame) {
    (void)frame;
    if (++levels == releases) line(LEVEL_PIN, false);
    CHECK(entry(LEVEL_PIN) & IOAPIC_REMOTE_IRR);
    CHECK_EQUAL(rdmsr(APIC_TMR + LEVEL / 32) >> LEVEL % 32 & 1, 1);
    if (ends) wrmsr(APIC_EOI, 0);
}

static void on_nmi(struct frame *frame) {
    (void)frame;
    nmis++;
}

static void check_registers(void) {
    CHECK_EQUAL(ioapic_read(io, 1) & 0xff00ff, 23 << 16 | 0x20);
    ioapic_write(io, 0, 0xffffffff);
    CHECK_EQUAL(ioapic_read(io, 0), 0x0f000000);
    CHECK_EQUAL(io[0], 0);
    for (unsigned pin = 0; pin < 24; pin++)
        CHECK(entry(pin) & IOAPIC_MASKED);
    ioapic_write(io, 0x10 + 2 * EDGE_PIN, 0xffffffff);
    ioapic_write(io, 0x11 + 2 * EDGE_PIN, 0xffffffff);
    CHECK_EQUAL(entry(EDGE_PIN), 0x1afff); /* delivery status and remote IRR are read-only */
    CHECK_EQUAL(ioapic_read(io, 0x11 + 2 * EDGE_PIN), 0xff000000);
}

static void check_edges(void) {
    ioapic_route(io, EDGE_PIN, 0, EDGE);
    line(EDGE_PIN, true);
    open_window();
    open_window();
    CHECK_EQUAL(edges, 1);
    line(EDGE_PIN, true);
    line(EDGE_PIN, false);
    open_window();
    CHECK_EQUAL(edges, 1);
    CHECK_EQUAL(entry(EDGE_PIN), EDGE);
    CHECK_EQUAL(rdmsr(APIC_TMR + EDGE / 32) >> EDGE % 32 & 1, 0);
    ioapic_route(io, EDGE_PIN, 0, IOAPIC_MASKED | EDGE);
    pulse(EDGE_PIN);
    ioapic_route(io, EDGE_PIN, 0, EDGE);
    open_window();
    CHECK_EQUAL(edges, 1); /* an edge that finds its input masked is lost */
}

static void check_destinations(void) {
    static const struct {
        u8 destination;
        u32 low;
        u32 arrives;
    } ways[] = {
        {0, EDGE, 1}, {1, LOGICAL | EDGE, 1}, {0xff, EDGE, 1},      {1, LOGICAL | 1 << 8 | EDGE, 1},
        {5, EDGE, 0}, {2, LOGICAL | EDGE, 0}, {0, EXTINT | EDGE, 0}};
    for (unsigned i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        edges = 0;
        ioapic_route(io, EDGE_PIN, ways[i].destination, ways[i].low);
        pulse(EDGE_PIN);
        open_window();
        if (edges != ways[i].arrives)
            print("destination 0x%x, entry 0x%x\n", ways[i].destination, ways[i].low);
        CHECK_EQUAL(edges, ways[i].arrives);
    }
    ioapic_route(io, EDGE_PIN, 0, NMI);
    pulse(EDGE_PIN);
    __asm__ volatile("nop");
    CHECK_EQUAL(nmis, 1);
    ioapic_route(io, EDGE_PIN, 0, IOAPIC_MASKED);
}

/* As long as it is up it comes again at each end. */
static void check_levels(void) {
    ioapic_route(io, LEVEL_PIN, 0, IOAPIC_LEVEL | LEVEL);
    releases = 3;
    line(LEVEL_PIN, true);
    interrupts_on();
    CHECK(COMES_TRUE(levels == 3));
    interrupts_off();
    open_window();
    CHECK_EQUAL(levels, 3);
    CHECK_EQUAL(entry(LEVEL_PIN), IOAPIC_LEVEL | LEVEL);

    /* No second message before the end of the first. */
    ends = false;
    levels = releases = 0;
    line(LEVEL_PIN, true);
    open_window();
    line(LEVEL_PIN, false);
    line(LEVEL_PIN, true);
    open_window();
    CHECK_EQUAL(levels, 1);
    line(LEVEL_PIN, false);
    ends = true;
    wrmsr(APIC_EOI, 0);
    open_window();
    CHECK_EQUAL(levels, 1);

    /* Up while it is masked: it comes when it is unmasked. */
    levels = 0;
    releases = 1;
    ioapic_write(io, 0x10 + 2 * LEVEL_PIN, IOAPIC_MASKED | IOAPIC_LEVEL | LEVEL);
    line(LEVEL_PIN, true);
    open_window();
    CHECK_EQUAL(levels, 0);
    ioapic_write(io, 0x10 + 2 * LEVEL_PIN, IOAPIC_LEVEL | LEVEL);
    open_window();
    CHECK_EQUAL(levels, 1);
}

/* The end by the I/O APIC's own register, and by turning an entry into an edge. */
static void check_ends(void) {
    for (unsigned by_register = 0; by_register < 2; by_register++) {
        levels = 0;
        releases = 1;
        ends = false;
        line(LEVEL_PIN, true);
        open_window();
        CHECK_EQUAL(levels, 1);
        CHECK(entry(LEVEL_PIN) & IOAPIC_REMOTE_IRR);
        if (by_register)
            io[EOI] = LEVEL;
        else
            ioapic_write(io, 0x10 + 2 * LEVEL_PIN, IOAPIC_MASKED | LEVEL);
        CHECK_EQUAL(entry(LEVEL_PIN) & IOAPIC_REMOTE_IRR, 0);
        ioapic_write(io, 0x10 + 2 * LEVEL_PIN, IOAPIC_LEVEL | LEVEL);
        wrmsr(APIC_EOI, 0);
        ends = true;
    }
}

void test_main(void) {
    handlers[EDGE] = on_edge;
    handlers[LEVEL] = on_level;
    handlers[VECTOR_NMI] = on_nmi;
    apic_enable();
    io = ioapic_registers(0);
    check_registers();
    check_edges();
    check_destinations();
    check_levels();
    check_ends();
}
