/* Hostile rings: whatever a driver does wrong, the device wants a reset, says so by an interrupt,
   and has written nowhere; after the reset it works. The device is virtio's entropy device, with
   split and with packed rings. */
#include "virtio.h"

const char title[] = "rings";

#define VECTOR 0x51
#define QUEUE  8
#define BEYOND 0x40000000ull
#define HOLE   0xfee00000ull
#define CANARY 0x5aa5c33c0ff0e11eull

static u32 slot;
static volatile struct common *common;
static volatile u32 interrupts;
static bool packed;

static struct ring {
    struct descriptor table[QUEUE];
    u16 driver_flags, driver_index, available[QUEUE + 1], pad[3];
    u32 device_words[2 * QUEUE + 2];
} ring __attribute__((aligned(16)));
static struct descriptor indirect[QUEUE] __attribute__((aligned(16)));
static u64 buffer[16];

static void on_interrupt(struct frame *frame) {
    (void)frame;
    interrupts++;
    wrmsr(APIC_EOI, 0);
}

/* --- a queue, and how buffers get into it --- */

static void start(u16 size, u64 descriptors, u64 driver, u64 device) {
    virtio_negotiate(common, VIRTIO_VERSION_1 | VIRTIO_INDIRECT | (packed ? VIRTIO_PACKED : 0));
    ring = (struct ring){0};
    for (unsigned i = 0; i < 16; i++)
        buffer[i] = CANARY;
    common->config_vector = 1;
    virtio_queue(common, 0, size, 0, descriptors, driver, device);
    common->status = STATUS_DRIVER_OK;
    interrupts = 0;
}

static void start_well(void) {
    start(QUEUE, (u64)ring.table, (u64)&ring.driver_flags, (u64)ring.device_words);
}

/* Descriptor `n`: split rings say which is next; packed ones go on with the one behind. */
static void put(unsigned n, u64 address, u32 length, u16 flags, u16 next) {
    struct descriptor d = {address, length, flags, next};
    if (packed) d = (struct descriptor){address, length, (u16)n, (u16)(flags | AVAIL)};
    ring.table[n] = d;
}

static void put_indirect(unsigned n, u64 address, u32 length, u16 flags, u16 next) {
    indirect[n] = (struct descriptor){address, length, packed ? 0 : flags, packed ? flags : next};
}

static void offer(u16 head, u16 count) {
    ring.available[0] = head;
    __asm__ volatile("" ::: "memory");
    if (!packed) /* there it is the driver's event suppression: none */
        *(volatile u16 *)&ring.driver_index = count;
    out16((u16)(pci_read(slot, PCI_BAR(4)) & ~3u), 0);
}

static void offer_first(void) { offer(0, 1); }

/* --- what a driver must not do --- */

static void no_memory(void) {
    put(0, BEYOND, 64, WRITE, 0);
    offer_first();
}
static void in_the_hole(void) {
    put(0, HOLE, 64, WRITE, 0);
    offer_first();
}
static void over_the_end(void) {
    put(0, memory_size - 8, 64, WRITE, 0);
    offer_first();
}
static void around_the_end(void) {
    put(0, ~0ull - 8, 64, WRITE, 0);
    offer_first();
}
static void absurd_length(void) {
    put(0, (u64)buffer, ~0u, WRITE, 0);
    offer_first();
}
static void not_writable(void) {
    put(0, (u64)buffer, 64, 0, 0);
    offer_first();
}
static void no_length(void) {
    put(0, (u64)buffer, 0, WRITE, 0);
    offer_first();
}
static void loop(void) {
    for (unsigned n = 0; n < QUEUE; n++)
        put(n, (u64)buffer, 8, WRITE | NEXT, 0);
    offer_first();
}
static void leaves_the_table(void) {
    put(0, (u64)buffer, 8, WRITE | NEXT,
        1000); /* split: 1000; packed: what is behind is not available */
    offer_first();
}
static void read_after_write(void) {
    put(0, (u64)buffer, 8, WRITE | NEXT, 1);
    put(1, (u64)buffer + 8, 8, 0, 0);
    offer_first();
}
static void no_descriptor(void) { offer(QUEUE, 1); }
static void too_many(void) {
    put(0, (u64)buffer, 64, WRITE, 0);
    offer(0, QUEUE + 1);
}
static void nested(void) {
    put_indirect(0, (u64)indirect, 16, INDIRECT, 0);
    put(0, (u64)indirect, 16, INDIRECT, 0);
    offer_first();
}
static void indirect_and_more(void) {
    put_indirect(0, (u64)buffer, 64, WRITE, 0);
    put(0, (u64)indirect, 16, INDIRECT | NEXT, 1);
    put(1, (u64)buffer, 64, WRITE, 0);
    offer_first();
}
static void indirect_length(void) {
    put_indirect(0, (u64)buffer, 64, WRITE, 0);
    put(0, (u64)indirect, 17, INDIRECT, 0);
    offer_first();
}
static void indirect_nowhere(void) {
    put(0, BEYOND, 16, INDIRECT, 0);
    offer_first();
}
static void indirect_loop(void) {
    put_indirect(0, (u64)buffer, 8, WRITE | NEXT, 1);
    put_indirect(1, (u64)buffer, 8, WRITE | NEXT, 0);
    put(0, (u64)indirect, 32, INDIRECT, 0);
    offer_first();
}

static const struct {
    const char *name;
    void (*act)(void);
    bool split, packed; /* where it is wrong */
} cases[] = {
    {"no memory", no_memory, true, true},
    {"in the hole", in_the_hole, true, true},
    {"over the end of memory", over_the_end, true, true},
    {"around the end of addresses", around_the_end, true, true},
    {"an absurd length", absurd_length, true, true},
    {"not writable", not_writable, true, true},
    {"no length", no_length, true, true},
    {"a loop", loop, true, true},
    {"a chain that leaves the table", leaves_the_table, true, true},
    {"to be read behind to be written", read_after_write, true, true},
    {"no such descriptor", no_descriptor, true, false},
    {"more buffers than the queue has", too_many, true, false},
    {"indirect in indirect", nested, true, true},
    {"indirect and more", indirect_and_more, true, true},
    {"an indirect table of 17 bytes", indirect_length, true, true},
    {"an indirect table nowhere", indirect_nowhere, true, true},
    {"a loop in an indirect table", indirect_loop, true, false},
};

static void expect(bool ok, const char *of, const char *what) {
    if (!ok) print("%s, %s rings\n", of, packed ? "packed" : "split");
    check(ok, what);
}

static bool is_untouched(void) {
    for (unsigned i = 0; i < 16; i++)
        if (buffer[i] != CANARY) return false;
    return true;
}

static void expect_stop(const char *name) {
    open_window();
    expect(common->status & STATUS_NEEDS_RESET, name, "the device wants a reset");
    expect(interrupts == 1, name, "one interrupt tells it");
    expect(is_untouched(), name, "no buffer has been written to");
    interrupts = 0;
    offer_first();
    open_window();
    expect(interrupts == 0 && common->status & STATUS_NEEDS_RESET, name,
           "and does nothing until then");
    common->status = 0;
    expect(common->status == 0, name, "the reset is done");
}

/* A good request: the device fills the buffer, and no byte more. */
static void expect_work(const char *name) {
    start_well();
    put(0, (u64)buffer, 64, WRITE, 0);
    offer_first();
    open_window();
    expect(common->status == STATUS_DRIVER_OK, name, "the device works after its reset");
    expect(interrupts == 1, name, "and tells it");
    expect(buffer[0] != CANARY && buffer[7] != CANARY && buffer[8] == CANARY, name,
           "it has filled the buffer");
}

/* Queues that are no memory, or of no size that there is. */
static void check_places(void) {
    const u64 good[] = {(u64)ring.table, (u64)&ring.driver_flags, (u64)ring.device_words};
    for (unsigned which = 0; which < 3; which++)
        for (unsigned how = 0; how < 4; how++) {
            u64 at[] = {good[0], good[1], good[2]};
            at[which] = how == 0   ? BEYOND
                        : how == 1 ? memory_size - 2
                        : how == 2 ? ~0ull
                                   : good[which] + 1;
            start(QUEUE, at[0], at[1], at[2]);
            expect(common->status & STATUS_NEEDS_RESET, "a ring in a bad place",
                   "the device wants a reset");
        }
    static const u16 sizes[] = {0, 3, 9, 0x8000, 0xffff};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        if (packed && sizes[i] == 3) continue; /* packed rings have any size */
        start(sizes[i], good[0], good[1], good[2]);
        expect(common->status & STATUS_NEEDS_RESET, "a bad size", "the device wants a reset");
    }
    expect_work("a bad place");
}

void test_main(void) {
    handlers[VECTOR] = on_interrupt;
    apic_enable();
    slot = pci_find(VIRTIO_RNG, 0);
    pci_write(slot, PCI_COMMAND, 7);
    common = pci_map(slot, 0, 0);
    virtio_use_msix(slot, 1, VECTOR);
    for (unsigned layout = 0; layout < 2; layout++) {
        packed = layout == 1;
        for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
            if (!(packed ? cases[i].packed : cases[i].split)) continue;
            start_well();
            cases[i].act();
            expect_stop(cases[i].name);
            expect_work(cases[i].name);
        }
        check_places();
    }
}
