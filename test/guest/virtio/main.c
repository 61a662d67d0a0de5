/* What virtio requests cost: reads of a disk, and frames from one card to another of the same VM, `depth` at a
   time, until `count` are done. Not a test of anything: it prints "virtio: ticks N" for `make bench`, the median of
   such a round, which other domains on the CPU do not disturb.
   Words of the command line: blk or net, packed, count=, depth=, size= (bytes of a request or frame). */
#include "virtio.h"

const char title[] = "virtio";

#define VECTOR  0x50
#define QUEUE   128
#define BUFFERS 0x1000000ull /* 64 KiB for each of QUEUE requests */
#define STEP    0x10000ull

struct queue {
    struct descriptor ring[QUEUE];
    u16 driver_flags, driver_index, available[QUEUE], pad[2];
    u32 driver_events, device_events;
    u16 device_flags, device_index;
    struct {
        u32 id, length;
    } used[QUEUE];
    u16 pad2[4];
    u16 next, taken; /* count for ever */
} __attribute__((aligned(16)));

struct device {
    volatile struct common *common;
    u16 notify;
    u32 slot;
    struct queue queues[2];
};

static struct device devices[2];
static volatile u64 interrupts;
static bool packed;

static void on_interrupt(struct frame *frame) {
    (void)frame;
    interrupts++;
    wrmsr(APIC_EOI, 0);
}

static void add_queue(struct device *d, unsigned n, bool wants_interrupts) {
    struct queue *q = &d->queues[n];
    virtio_queue(d->common, n, QUEUE, wants_interrupts ? 1 : NO_VECTOR, (u64)q->ring,
                 (u64)(packed ? (void *)&q->driver_events : (void *)&q->driver_flags),
                 (u64)(packed ? (void *)&q->device_events : (void *)&q->device_flags));
    if (!wants_interrupts) {
        q->driver_flags = 1;
        q->driver_events = 1 << 16;
    }
}

/* Finds the `nth` function with this id, and starts it with `queues` queues; interrupts come from the one. */
static struct device *start(u32 id, unsigned nth, unsigned queues, unsigned interrupting) {
    struct device *d = &devices[nth];
    d->slot = pci_find(id, nth);
    pci_write(d->slot, PCI_COMMAND, 7);
    d->notify = (u16)(pci_read(d->slot, PCI_BAR(4)) & ~3u);
    d->common = pci_map(d->slot, 0, 2 * nth);
    virtio_use_msix(d->slot, 2 * nth + 1, VECTOR);
    virtio_negotiate(d->common, VIRTIO_VERSION_1 | (packed ? VIRTIO_PACKED : 0));
    for (unsigned n = 0; n < queues; n++)
        add_queue(d, n, n == interrupting);
    return d;
}

static struct descriptor *place(struct queue *q, unsigned n) { return &q->ring[(q->next + n) % QUEUE]; }

/* Adds a buffer of up to three parts; the flags of the first are written last. */
static void add(struct queue *q, const struct descriptor *parts, unsigned count) {
    u16 head = q->next % QUEUE, first = 0;
    for (unsigned n = 0; n < count; n++) {
        struct descriptor *d = place(q, n);
        u16 flags = (u16)(parts[n].a | (n + 1 < count ? NEXT : 0));
        d->address = parts[n].address;
        d->length = parts[n].length;
        if (packed) {
            d->a = head;
            flags |= (q->next + n) / QUEUE % 2 ? USED : AVAIL;
            if (n == 0)
                first = flags;
            else
                d->b = flags;
        } else {
            d->a = flags;
            d->b = (u16)((q->next + n + 1) % QUEUE);
        }
    }
    __asm__ volatile("" ::: "memory");
    if (packed)
        *(volatile u16 *)&q->ring[head].b = first;
    else {
        q->available[q->driver_index % QUEUE] = head;
        __asm__ volatile("" ::: "memory");
        *(volatile u16 *)&q->driver_index = (u16)(q->driver_index + 1);
    }
    q->next = (u16)(q->next + count);
}

/* Takes back a used buffer of `count` descriptors. */
static bool take(struct queue *q, unsigned count) {
    if (packed) {
        u16 flags = *(volatile u16 *)&q->ring[q->taken % QUEUE].b;
        bool wrap = !(q->taken / QUEUE % 2);
        if (!!(flags & AVAIL) != wrap || !!(flags & USED) != wrap)
            return false;
        q->taken = (u16)(q->taken + count);
        return true;
    }
    if (*(volatile u16 *)&q->device_index == q->taken)
        return false;
    q->taken++;
    return true;
}

/* Waits until a buffer comes back: halted, unless it is there already. */
static void wait(struct queue *q, unsigned count) {
    for (;;) {
        __asm__ volatile("cli" ::: "memory");
        if (take(q, count))
            break;
        __asm__ volatile("sti; hlt" ::: "memory");
    }
    __asm__ volatile("sti" ::: "memory");
}

#define SAMPLES 2048
static u64 samples[SAMPLES];
static unsigned rounds;

static void note(u64 began) {
    if (rounds < SAMPLES)
        samples[rounds++] = rdtsc() - began;
}

static void report(void) {
    print("virtio: ticks %lu\n", median(samples, rounds));
}

static u8 *buffer(unsigned n) { return (u8 *)(BUFFERS + n * STEP); }

static void read_disk(u64 count, unsigned depth, u32 size) {
    struct device *d = start(VIRTIO_BLK, 0, 1, 0);
    struct queue *q = &d->queues[0];
    d->common->status = 0xf;
    for (u64 done = 0; done < count; done += depth) {
        u64 began = rdtsc();
        for (unsigned n = 0; n < depth; n++) {
            u32 *header = (u32 *)(buffer(n) + STEP - 32);
            header[0] = header[1] = header[3] = 0;
            header[2] = n;
            struct descriptor parts[] = {{(u64)header, 16, 0, 0},
                                         {(u64)buffer(n), size, WRITE, 0},
                                         {(u64)header + 16, 1, WRITE, 0}};
            add(q, parts, 3);
        }
        out16(d->notify, 0);
        for (unsigned n = 0; n < depth; n++)
            wait(q, 3);
        note(began);
    }
}

static void pass_frames(u64 count, unsigned depth, u32 size) {
    struct device *to = start(VIRTIO_NET, 1, 2, 0);
    struct device *from = start(VIRTIO_NET, 0, 2, 2);
    struct queue *in = &to->queues[0], *out = &from->queues[1];
    for (unsigned n = 0; n < 2 * depth && n < QUEUE; n++) {
        struct descriptor part = {(u64)buffer(QUEUE / 2 + n / 2) + n % 2 * STEP / 2, 2048, WRITE, 0};
        add(in, &part, 1);
    }
    to->common->status = 0xf;
    from->common->status = 0xf;
    for (u64 done = 0; done < count; done += depth) {
        u64 began = rdtsc();
        for (unsigned n = 0; n < depth; n++) {
            struct descriptor part = {(u64)buffer(n), size + 12, 0, 0};
            add(out, &part, 1);
        }
        out16(from->notify, 1);
        for (unsigned n = 0; n < depth; n++) {
            wait(in, 1);
            struct descriptor part = {(u64)buffer(QUEUE / 2 + n / 2) + n % 2 * STEP / 2, 2048, WRITE, 0};
            add(in, &part, 1);
        }
        for (unsigned n = 0; n < depth; n++)
            if (!take(out, 1))
                error("a sent frame did not come back");
        out16(to->notify, 0);
        note(began);
    }
}

void test_main(void) {
    u64 count = word_value("count");
    unsigned depth = (unsigned)word_value("depth");
    u32 size = (u32)word_value("size");
    packed = has_word("packed");
    handlers[VECTOR] = on_interrupt;
    apic_enable();
    interrupts_on();
    if (has_word("blk"))
        read_disk(count, depth, size);
    else
        pass_frames(count, depth, size);
    interrupts_off();
    report();
    print("virtio: done\n");
    for (;;) /* until the VM is stopped */
        __asm__ volatile("hlt");
}
