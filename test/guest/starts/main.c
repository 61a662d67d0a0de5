/*
 * Prints what the loader told, in the same words for Multiboot 1, Multiboot 2 and PVH, and ends with exit code 33;
 * 1 where something is wrong.
 *
 * Sources: Multiboot Specification 0.6.96, Multiboot2 Specification 2.0, Xen's start_info.h.
 */
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define COM1             0x3f8
#define COM1_STATUS      (COM1 + 5)
#define TRANSMITTER_FREE 0x20
#define DEBUG_EXIT       0xf4
#define EXIT_GOOD        33
#define EXIT_BAD         1

#define FROM_MULTIBOOT  0x2badb002
#define FROM_MULTIBOOT2 0x36d76289
#define FROM_PVH        0x336ec578
#define CR0_PE          1u
#define CR0_PG          0x80000000u
#define RAM             1

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

static u8 in8(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put(char c) {
    while (!(in8(COM1_STATUS) & TRANSMITTER_FREE))
        ;
    out8(COM1, (u8)c);
}

static void print(const char *text) {
    while (*text)
        put(*text++);
}

static void print_hex(u64 value) {
    print("0x");
    int digit = 60;
    while (digit && !(value >> digit & 15))
        digit -= 4;
    for (; digit >= 0; digit -= 4)
        put("0123456789abcdef"[value >> digit & 15]);
}

_Noreturn static void end(u8 code) {
    for (;;)
        out8(DEBUG_EXIT, code);
}

static void fact(const char *name, u64 value) {
    print(name);
    print(" ");
    print_hex(value);
    print("\n");
}

static void text(const char *name, u64 at) {
    print(name);
    print(" ");
    print(at ? (const char *)(u32)at : "none");
    print("\n");
}

static u32 ram_low, ram_high; /* bytes below 1 MiB, and from there on */

static void range(u64 start, u64 size, u32 kind) {
    if (kind != RAM) return;
    if (start < 0x100000)
        ram_low += (u32)size;
    else
        ram_high += (u32)size;
}

static void module(u64 start, u64 size, u64 string) {
    fact("module of", size);
    text("  text", string);
    print("  begins ");
    for (u32 i = 0; i < 8; i++)
        put(((const char *)(u32)start)[i]);
    print(start & 4095 ? ", not on a page\n" : ", on a page\n");
}

static void rsdp(u64 at) {
    const char *text = (const char *)(u32)at;
    print("rsdp ");
    for (u32 i = 0; at && i < 8; i++)
        put(text[i]);
    print("\n");
}

/* What is said of memory outside of the map. */
static void memory(u32 lower, u32 upper) {
    fact("lower", (u64)lower << 10);
    fact("upper", (u64)upper << 10);
}

static void from_multiboot(const u32 *info) {
    u32 flags = info[0];
    fact("flags", flags);
    memory(info[1], info[2]);
    text("cmdline", info[4]);
    const u32 *list = (const u32 *)info[6];
    for (u32 i = 0; i < info[5]; i++, list += 4)
        module(list[0], list[1] - list[0], list[2]);
    for (u32 at = info[12]; at < info[12] + info[11];) {
        const u32 *entry = (const u32 *)at;
        range(entry[1] | (u64)entry[2] << 32, entry[3] | (u64)entry[4] << 32, entry[5]);
        at += entry[0] + 4;
    }
    text("loader", info[16]);
    fact("sections", info[7]);
}

static void tag(const u32 *at) {
    switch (at[0]) {
    case 1:
        return text("cmdline", (u32)(at + 2));
    case 2:
        return text("loader", (u32)(at + 2));
    case 3:
        return module(at[2], at[3] - at[2], (u32)(at + 4));
    case 4:
        return memory(at[2], at[3]);
    case 6:
        for (u32 i = 4; i * 4 < at[1]; i += at[2] / 4)
            range(at[i] | (u64)at[i + 1] << 32, at[i + 2] | (u64)at[i + 3] << 32, at[i + 4]);
        return;
    case 9:
        return fact("sections", at[2]);
    case 15:
        return rsdp((u32)(at + 2));
    case 21:
        return fact("base", at[2]);
    }
}

static void from_multiboot2(const u32 *info) {
    const u8 *at = (const u8 *)info + 8, *limit = (const u8 *)info + info[0];
    while (at < limit && *(const u32 *)at) {
        tag((const u32 *)at);
        at += (((const u32 *)at)[1] + 7) & ~7u;
    }
    print(at == limit - 8 ? "the end tag is last\n" : "the end tag is not last\n");
}

static void from_pvh(const u32 *info) {
    fact("version", info[1]);
    text("cmdline", info[6]);
    const u64 *list = (const u64 *)info[4];
    for (u32 i = 0; i < info[3]; i++, list += 4)
        module(list[0], list[1], list[2]);
    rsdp(info[8]);
    const u32 *entry = (const u32 *)info[10];
    for (u32 i = 0; i < info[12]; i++, entry += 6)
        range(entry[0] | (u64)entry[1] << 32, entry[2] | (u64)entry[3] << 32, entry[4]);
}

void start(u32 who, const u32 *info, u32 moved) {
    u32 cr0, flags;
    __asm__ volatile("mov %%cr0, %0; pushf; pop %1" : "=r"(cr0), "=r"(flags));
    if (cr0 & CR0_PG || !(cr0 & CR0_PE) || flags & 0x20200) {
        fact("wrong state: cr0", cr0);
        end(EXIT_BAD);
    }
    fact("start: moved by", moved);
    if (who == FROM_MULTIBOOT)
        from_multiboot(info);
    else if (who == FROM_MULTIBOOT2)
        from_multiboot2(info);
    else if (info[0] == FROM_PVH)
        from_pvh(info);
    else
        end(EXIT_BAD);
    fact("ram below 1 MiB", ram_low);
    fact("ram above", ram_high);
    end(EXIT_GOOD);
}
