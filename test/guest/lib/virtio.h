/* A virtio function over PCI: its registers, descriptors, and the way to its queues. */
#pragma once

#include "chips.h"

#define VIRTIO_NET 0x10411af4u
#define VIRTIO_BLK 0x10421af4u
#define VIRTIO_RNG 0x10441af4u

#define VIRTIO_INDIRECT  (1ull << 28)
#define VIRTIO_EVENT_IDX (1ull << 29)
#define VIRTIO_VERSION_1 (1ull << 32)
#define VIRTIO_PACKED    (1ull << 34)

#define STATUS_FEATURES_OK 8
#define STATUS_READY       0xb /* and the features are agreed on */
#define STATUS_DRIVER_OK   0xf
#define STATUS_NEEDS_RESET 0x40

#define NEXT     1
#define WRITE    2
#define INDIRECT 4
#define AVAIL    0x80
#define USED     0x8000

/* The common configuration, at the beginning of BAR 0; its window page. */
struct common {
    u32 device_select, device_features, driver_select, driver_features;
    u16 config_vector, queues;
    u8 status, generation;
    u16 select, size, vector, enable, notify_offset;
    u64 descriptors, driver, device;
};
#define VIRTIO_ISR 0x1000

struct descriptor {
    u64 address;
    u32 length;
    u16 a, b; /* split: flags, next; packed: id, flags */
};

#define NO_VECTOR 0xffff

/* Sets a queue up, and enables it. */
static inline void virtio_queue(volatile struct common *c, unsigned n, u16 size, u16 vector,
                                u64 descriptors, u64 driver, u64 device) {
    c->select = (u16)n;
    c->size = size;
    c->vector = vector;
    c->descriptors = descriptors;
    c->driver = driver;
    c->device = device;
    c->enable = 1;
}

/* All vectors of a function send this one. */
static inline void virtio_use_msix(u32 slot, unsigned page, u8 vector) {
    volatile u32 *table = pci_map(slot, 1, page);
    u32 at = pci_capability(slot, PCI_CAP_MSIX);
    for (unsigned n = 0; n <= (pci_read(slot, at) >> 16 & 0x7ff); n++) {
        table[4 * n] = 0xfee00000;
        table[4 * n + 1] = 0;
        table[4 * n + 2] = vector;
        table[4 * n + 3] = 0;
    }
    pci_write(slot, at, pci_read(slot, at) | 0x80000000u);
}

/* Resets the device and agrees on features. */
static inline void virtio_negotiate(volatile struct common *c, u64 features) {
    c->status = 0;
    c->status = 1;
    c->status = 3;
    c->driver_select = 0;
    c->driver_features = (u32)features;
    c->driver_select = 1;
    c->driver_features = (u32)(features >> 32);
    c->status = STATUS_READY;
    if (!(c->status & STATUS_FEATURES_OK)) error("the features are refused");
}
