/* Gives pages to its balloon while its other CPUs go on reading and writing them, again and again.
   Whoever has their frames meanwhile: what is read is what this VM has written there, or zeros.
   Words: pattern= (its own, not 0), cpus=, rounds=. "keep": gives all of them once, and stays. */
#include "virtio.h"

const char title[] = "reuse";

#define VIRTIO_BALLOON 0x10451af4u
#define REGION         0x400000ull
#define PAGE           4096ull
#define WORDS          (PAGE / sizeof(u64))
#define RUN            64u /* pages that go at once */
#define QUEUE          8

static struct descriptor table[QUEUE] __attribute__((aligned(16)));
static struct {
    u16 flags;
    volatile u16 index;
    u16 ring[QUEUE], event;
} driver __attribute__((aligned(16)));
static struct {
    u16 flags;
    volatile u16 index;
    u64 ring[QUEUE];
    u16 event;
} device __attribute__((aligned(16)));
static u32 list[RUN];
static u16 bell;

static u64 pattern, pages; /* all memory from REGION on, in whole runs */
static volatile u64 hot, zeros, foreign, example; /* counts of several CPUs: no more than hints */
static volatile bool over;
static volatile unsigned at_work;

static void balloon_start(void) {
    u32 slot = pci_find(VIRTIO_BALLOON, 0);
    pci_write(slot, PCI_COMMAND, 7);
    volatile struct common *common = pci_map(slot, 0, 0);
    virtio_negotiate(common, VIRTIO_VERSION_1);
    virtio_queue(common, 0, QUEUE, NO_VECTOR, (u64)table, (u64)&driver, (u64)&device);
    common->status = STATUS_DRIVER_OK;
    bell = (u16)(pci_read(slot, PCI_BAR(4)) & ~3u);
}

static void give(u64 first) {
    for (unsigned n = 0; n < RUN; n++)
        list[n] = (u32)(REGION / PAGE + first + n);
    table[0] = (struct descriptor){(u64)list, sizeof(list), 0, 0};
    driver.ring[driver.index % QUEUE] = 0;
    __asm__ volatile("" ::: "memory");
    driver.index++;
    out16(bell, 0);
    while (device.index != driver.index)
        __builtin_ia32_pause();
}

static volatile u64 *page_at(u64 page) { return (volatile u64 *)(REGION + page * PAGE); }

/* Of the page, so that it is not taken for another one of this VM either. */
static u64 own(u64 page) { return 0x5ec2ull << 48 | pattern << 32 | page; }

static void look(u64 page, u64 word) {
    u64 value = page_at(page)[word];
    if (!value)
        zeros++;
    else if (value != own(page))
        foreign++, example = value;
}

/* CPU 1 only reads, so that its translations last; the others write too. */
static void touch(unsigned cpu) {
    at_work++;
    for (u64 turn = cpu; !over; turn++) {
        u64 first = hot;
        for (u64 page = first; page < first + RUN; page++) {
            look(page, turn % WORDS);
            if (cpu > 1 && (page + turn) % 4 == 0) page_at(page)[turn * 7 % WORDS] = own(page);
        }
    }
}

static void fill(void) {
    for (u64 page = 0; page < pages; page++)
        for (u64 word = 0; word < WORDS; word++)
            page_at(page)[word] = own(page);
}

static void keep(void) {
    for (u64 page = 0; page < pages; page += RUN)
        give(page);
    print("kept: %lu pages\n", pages);
    for (;;)
        wait_interrupt();
}

void test_main(void) {
    unsigned cpus = (unsigned)word_value("cpus=");
    u64 rounds = word_value("rounds="), random = pattern = word_value("pattern=");
    if (!pattern) error("which pattern?");
    pages = (memory_size - REGION) / (RUN * PAGE) * RUN;
    apic_enable();
    balloon_start();
    fill();
    if (has_word("keep")) keep();
    cpus_start(cpus, touch);
    print("reuse: %u\n", cpus);
    for (u64 round = 0; round < rounds; round++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        u64 first = (random >> 33) % (pages / RUN) * RUN;
        hot = first;
        /* Their translations are there, on each of the other CPUs that runs now. */
        for (u64 page = first; page < first + RUN; page++)
            page_at(page)[round % WORDS] = own(page);
        give(first);
        for (u64 page = first; page < first + RUN; page++)
            look(page, round % WORDS);
    }
    over = true;
    for (u64 page = 0; page < pages; page++)
        for (u64 word = 0; word < WORDS; word++)
            look(page, word);
    print("zeros: %lu, foreign: %lu 0x%lx\n", zeros, foreign, example);
    CHECK(zeros);
    CHECK_EQUAL(foreign, 0);
}
