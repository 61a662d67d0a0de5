/* Reads the Multiboot 2 boot information; nothing in it is trusted, least of all a length. */
#include "boot_info.h"

#define PHYSICAL_LIMIT (1ull << 42) /* RAM above 4 TiB is not used: frame.c */
#define PAGE_MASK      ((u64)PAGE_SIZE - 1)

#define VGA_TEXT    0xb8000
#define VGA_COLUMNS 80
#define VGA_ROWS    25

enum tag_type {
    TAG_END = 0,
    TAG_COMMAND_LINE = 1,
    TAG_LOADER = 2,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_FRAMEBUFFER = 8,
    TAG_EFI32 = 11,
    TAG_EFI64 = 12,
    TAG_RSDP_1 = 14,
    TAG_RSDP_2 = 15,
};

struct tag {
    u32 type, size;
};

struct memory_tag {
    struct tag tag;
    u32 entry_size, entry_version;
};

struct memory_entry {
    u64 start, size;
    u32 type, reserved;
};
#define MEMORY_AVAILABLE 1

struct module_tag {
    struct tag tag;
    u32 start, end;
};

struct framebuffer_tag {
    struct tag tag;
    u64 address;
    u32 pitch, width, height;
    u8 depth, type;
};
#define FRAMEBUFFER_RGB      1
#define FRAMEBUFFER_EGA_TEXT 2
#define FRAMEBUFFER_LIMIT    (16 * MIB) /* what a larger one shows below is left black */

/* Copies a string that may lack its zero. */
static void string_copy(char *to, size_t to_size, const u8 *from, size_t from_size) {
    size_t length = 0;
    while (length < from_size && length < to_size - 1 && from[length])
        length++;
    memcpy(to, from, length);
    memset(to + length, 0, to_size - length);
}

static void region_remove(struct boot_info *out, u32 index) {
    out->region_count--;
    memmove(&out->regions[index], &out->regions[index + 1],
            (out->region_count - index) * sizeof(out->regions[0]));
}

/* Adds [start, end), swallowing what it overlaps or touches, so regions stay disjoint. With too
   many of them the new one is left out. */
static void region_add(struct boot_info *out, u64 start, u64 end) {
    for (u32 i = 0; i < out->region_count;) {
        u64 other = out->regions[i].start.v, other_end = other + out->regions[i].size;
        if (other > end || other_end < start) {
            i++;
            continue;
        }
        start = other < start ? other : start;
        end = other_end > end ? other_end : end;
        region_remove(out, i);
        i = 0;
    }
    if (out->region_count == MAX_REGIONS) return;
    u32 at = 0;
    while (at < out->region_count && out->regions[at].start.v < start)
        at++;
    memmove(&out->regions[at + 1], &out->regions[at],
            (out->region_count - at) * sizeof(out->regions[0]));
    out->regions[at] = (struct boot_region){hpa(start), end - start};
    out->region_count++;
}

/* Takes [start, end) out of every region. */
static void region_subtract(struct boot_info *out, u64 start, u64 end) {
    for (u32 i = 0; i < out->region_count;) {
        u64 other = out->regions[i].start.v, other_end = other + out->regions[i].size;
        if (other >= end || other_end <= start) {
            i++;
            continue;
        }
        region_remove(out, i);
        if (other < start) region_add(out, other, start);
        if (other_end > end) region_add(out, end, other_end);
        i = 0;
    }
}

/* One pass over the map's entries: usable RAM, rounded inwards, or all else, rounded outwards. */
static void memory_pass(struct boot_info *out, const u8 *map, u32 size, bool available) {
    struct memory_tag head;
    memcpy(&head, map, sizeof(head));
    for (u64 at = sizeof(head); at + head.entry_size <= size; at += head.entry_size) {
        struct memory_entry entry;
        memcpy(&entry, map + at, sizeof(entry));
        u64 end = entry.start + entry.size;
        if (end < entry.start || end > PHYSICAL_LIMIT) end = PHYSICAL_LIMIT;
        if (entry.start >= end || (entry.type == MEMORY_AVAILABLE) != available) continue;
        if (!available) {
            region_subtract(out, entry.start & ~PAGE_MASK, (end + PAGE_MASK) & ~PAGE_MASK);
        } else {
            u64 first = (entry.start + PAGE_MASK) & ~PAGE_MASK, last = end & ~PAGE_MASK;
            if (first < last) region_add(out, first, last);
        }
    }
}

static const char *memory_read(struct boot_info *out, const u8 *map, u32 size) {
    struct memory_tag head;
    if (size < sizeof(head)) return "the memory map is truncated";
    memcpy(&head, map, sizeof(head));
    if (head.entry_size < sizeof(struct memory_entry) || head.entry_size > size)
        return "the memory map has entries of an impossible size";
    memory_pass(out, map, size, true);
    memory_pass(out, map, size, false);
    return NULL;
}

static const char *module_read(struct boot_info *out, const u8 *data, u32 size) {
    struct module_tag module;
    if (size < sizeof(module)) return "a module's description is truncated";
    memcpy(&module, data, sizeof(module));
    if (module.start == module.end) return NULL; /* who looks for it says that it is missing */
    if (module.start > module.end) return "a module ends before it begins";
    if (module.start & PAGE_MASK) return "a module is not on a page boundary";
    if (out->module_count == MAX_MODULES) return "there are too many modules";
    struct boot_module *to = &out->modules[out->module_count++];
    to->start = hpa(module.start);
    to->size = module.end - module.start;
    string_copy(to->name, sizeof(to->name), data + sizeof(module), size - sizeof(module));
    return NULL;
}

static void rsdp_read(struct boot_info *out, const u8 *data, u32 size) {
    if (size <= out->rsdp_size) return;
    out->rsdp_size = size < sizeof(out->rsdp) ? size : sizeof(out->rsdp);
    memcpy(out->rsdp, data, out->rsdp_size);
}

/* Text memory, or pixels of 32 bits; with anything else there is no screen. */
static void framebuffer_read(struct boot_info *out, const u8 *data) {
    struct framebuffer_tag f;
    memcpy(&f, data, sizeof(f));
    if (f.type == FRAMEBUFFER_EGA_TEXT) return;
    memset(&out->screen, 0, sizeof(out->screen));
    if (f.type != FRAMEBUFFER_RGB || f.depth != 32 || f.pitch % sizeof(u32) ||
        f.pitch / sizeof(u32) < f.width || f.address % sizeof(u32) || f.address > PHYSICAL_LIMIT)
        return;
    u64 rows = f.height / FONT_HEIGHT, row_size = (u64)f.pitch * FONT_HEIGHT;
    if (row_size && rows > FRAMEBUFFER_LIMIT / row_size) rows = FRAMEBUFFER_LIMIT / row_size;
    out->screen =
        (struct screen){hpa(f.address), rows * row_size, f.width / FONT_WIDTH, (u32)rows, f.pitch};
    if (!out->screen.columns) out->screen.size = 0;
}

static const char *tag_read(struct boot_info *out, const u8 *data, struct tag tag) {
    const u8 *body = data + sizeof(tag);
    u32 body_size = tag.size - sizeof(tag);
    switch (tag.type) {
    case TAG_COMMAND_LINE:
        string_copy(out->command_line, sizeof(out->command_line), body, body_size);
        return NULL;
    case TAG_LOADER: string_copy(out->loader, sizeof(out->loader), body, body_size); return NULL;
    case TAG_MODULE: return module_read(out, data, tag.size);
    case TAG_MEMORY_MAP: return memory_read(out, data, tag.size);
    case TAG_FRAMEBUFFER:
        if (tag.size >= sizeof(struct framebuffer_tag)) framebuffer_read(out, data);
        return NULL;
    case TAG_EFI32:
    case TAG_EFI64:
        out->efi = true;
        if (!out->screen.pitch) out->screen.size = 0; /* no text memory there */
        return NULL;
    case TAG_RSDP_1:
    case TAG_RSDP_2: rsdp_read(out, body, body_size); return NULL;
    default: return NULL;
    }
}

const char *multiboot2_parse(const void *info, u64 size, struct boot_info *out) {
    const u8 *data = info;
    u32 total;
    memset(out, 0, sizeof(*out));
    out->screen =
        (struct screen){hpa(VGA_TEXT), VGA_COLUMNS * VGA_ROWS * 2, VGA_COLUMNS, VGA_ROWS, 0};
    if (size < 2 * sizeof(u32)) return "the boot information is truncated";
    memcpy(&total, data, sizeof(total));
    if (total > size) return "the boot information is longer than memory";
    for (u64 at = 2 * sizeof(u32); at + sizeof(struct tag) <= total;) {
        struct tag tag;
        memcpy(&tag, data + at, sizeof(tag));
        if (tag.size < sizeof(tag) || tag.size > total - at)
            return "the boot information has a tag of an impossible size";
        if (tag.type == TAG_END) {
            u64 screen = out->screen.memory.v;
            region_subtract(out, screen & ~PAGE_MASK,
                            (screen + out->screen.size + PAGE_MASK) & ~PAGE_MASK);
            return out->region_count ? NULL : "the boot information has no usable memory";
        }
        const char *error = tag_read(out, data + at, tag);
        if (error) return error;
        at += ((u64)tag.size + 7) & ~7ull;
    }
    return "the boot information has no end";
}
