/* The kernel's own address space: its image, the pool's chunks, device registers, stacks, and
   windows through which it touches other memory for the moment. */
#pragma once

#include "boot_info.h"
#include "types.h"

/* ffff800000000000  physmap: physical address + this, only the kernel pool's 2 MiB chunks
   ffffffff80000000  image: physical address + this; code R-X, constants R--, data RW-
   ffffffffc0000000  windows: one page for each CPU, and one of 2 MiB for each CPU
   ffffffffd0000000  device registers, uncached
   ffffffffe0000000  stacks, each above an unmapped guard page */
#define PHYSMAP_BASE   0xffff800000000000ull
#define KERNEL_BASE    0xffffffff80000000ull
#define WINDOW_BASE    0xffffffffc0000000ull
#define WINDOW_2M_BASE 0xffffffffc8000000ull
#define MMIO_BASE      0xffffffffd0000000ull
#define STACK_BASE     0xffffffffe0000000ull

/* Leaves the boot loader's and start.S's tables; nothing is mapped low any more. */
void paging_init(void);
/* This CPU goes over to the kernel's tables. */
void paging_load(void);

/* Maps one frame until window_unmap, for this CPU only; they nest WINDOW_SLOTS deep. The address
   need not be aligned: the pointer has its offset. */
#define WINDOW_SLOTS 4
void *window_map(struct hpa address);
void window_unmap(void *pointer);
/* The same for a 2 MiB block; there is one such window for each CPU. */
void *window_map_2m(struct hpa block);
void window_unmap_2m(void);

/* Copies physical memory, whatever it is, through a window. */
void physical_read(void *to, struct hpa from, u64 size);
void physical_write(struct hpa to, const void *from, u64 size);

/* Device registers: mapped uncached for ever. */
void *mmio_map(struct hpa start, u64 size);

/* A stack with a guard page below it; returns its top, 16-byte aligned. */
void *stack_alloc(unsigned pages);

/* Maps the 2 MiB block at this address in the physmap; physmap_prepare has made tables for it. */
void physmap_map(struct hpa block);
/* Makes the tables of the physmap for this RAM, out of frame_alloc. */
void physmap_prepare(struct hpa start, u64 size);

/* Between a pointer into the physmap, or into the kernel image, and its address. */
struct hpa hpa_of(const void *pointer);
void *pool_pointer(struct hpa address);

/* Where the kernel image lies, in whole pages. */
struct boot_region image_region(void);

u64 paging_root(void); /* for CR3, in this CPU and in the host state of VMCSs */
