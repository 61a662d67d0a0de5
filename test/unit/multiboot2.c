// with:
/* The boot information: a good one, each kind of bad one, and damage at every byte. */
#include "unit.h"

#include "../../boot/multiboot2.c"

struct builder {
    u8 bytes[8192];
    u32 size;
};

static void begin(struct builder *b) {
    memset(b, 0, sizeof(*b));
    b->size = 8;
}

static void tag_add(struct builder *b, u32 type, const void *body, u32 body_size) {
    struct tag tag = {type, (u32)sizeof(tag) + body_size};
    memcpy(b->bytes + b->size, &tag, sizeof(tag));
    if (body_size) memcpy(b->bytes + b->size + sizeof(tag), body, body_size);
    b->size += (tag.size + 7) & ~7u;
}

/* Parses an exact copy, so that the sanitizer sees any read beyond it. */
static const char *parse(const struct builder *b, u32 size, struct boot_info *out) {
    u8 *copy = malloc(size ? size : 1);
    memcpy(copy, b->bytes, size);
    const char *error = multiboot2_parse(copy, size, out);
    free(copy);
    return error;
}

static const char *finish(struct builder *b, struct boot_info *out) {
    tag_add(b, TAG_END, NULL, 0);
    memcpy(b->bytes, &b->size, sizeof(b->size));
    return parse(b, b->size, out);
}

static void memory_add(struct builder *b, const struct memory_entry *entries, u32 count) {
    u8 body[2048];
    u32 head[2] = {sizeof(struct memory_entry), 0};
    memcpy(body, head, sizeof(head));
    memcpy(body + sizeof(head), entries, count * sizeof(*entries));
    tag_add(b, TAG_MEMORY_MAP, body, (u32)(sizeof(head) + count * sizeof(*entries)));
}

static void module_add(struct builder *b, u32 start, u32 end, const char *name, u32 name_size) {
    u8 body[256];
    u32 range[2] = {start, end};
    memcpy(body, range, sizeof(range));
    memcpy(body + sizeof(range), name, name_size);
    tag_add(b, TAG_MODULE, body, (u32)sizeof(range) + name_size);
}

static const struct memory_entry ordinary[] = {
    {0, 0x9fc00, 1, 0},
    {0x9fc00, 0x400, 2, 0},
    {0x100000, 0x1ff00000, 1, 0},
    {0xfffc0000, 0x40000, 2, 0},
};

static void good(struct builder *b) {
    begin(b);
    tag_add(b, TAG_COMMAND_LINE, "quiet", 6);
    tag_add(b, TAG_LOADER, "GRUB", 5);
    memory_add(b, ordinary, ARRAY_SIZE(ordinary));
    module_add(b, 0x200000, 0x212345, "control", 8);
    module_add(b, 0x300000, 0x300001, "device-model", 13);
    tag_add(b, TAG_RSDP_1, "RSD PTR 12345678901", 20);
}

static void test_good(void) {
    struct builder b;
    struct boot_info info;
    good(&b);
    check(!finish(&b, &info), "a good one is accepted");
    check(info.region_count == 2 && info.regions[0].size == 0x9f000 &&
              info.regions[1].start.v == 0x100000 && info.regions[1].size == 0x1ff00000,
          "regions are in order, rounded inwards");
    check(info.module_count == 2 && info.modules[0].size == 0x12345 &&
              !strcmp(info.modules[1].name, "device-model"),
          "modules have name and size");
    check(!strcmp(info.command_line, "quiet") && !strcmp(info.loader, "GRUB"), "strings");
    check(info.rsdp_size == 20 && !info.efi, "root pointer");
    check(!info.screen.pitch && info.screen.columns == 80, "a text screen");
}

/* What a framebuffer of this size makes of the screen, on a machine with UEFI. */
static struct screen screen_of(u64 address, u32 pitch, u32 width, u32 height, u8 depth, u8 type) {
    struct builder b;
    struct boot_info info;
    struct framebuffer_tag f = {{0}, address, pitch, width, height, depth, type};
    begin(&b);
    memory_add(&b, ordinary, ARRAY_SIZE(ordinary));
    tag_add(&b, TAG_FRAMEBUFFER, &f.address, sizeof(f) - sizeof(f.tag));
    tag_add(&b, TAG_EFI64, "SYSTABLE", 8);
    check(!finish(&b, &info) && info.efi, "any screen is accepted");
    for (u32 i = 0; i < info.region_count; i++) {
        u64 start = info.regions[i].start.v, end = start + info.regions[i].size;
        check(!info.screen.size || address + info.screen.size <= start || address >= end,
              "the screen is not in RAM that is used");
    }
    return info.screen;
}

static void test_screen(void) {
    struct builder b;
    struct boot_info info;
    begin(&b);
    memory_add(&b, ordinary, ARRAY_SIZE(ordinary));
    tag_add(&b, TAG_EFI64, "SYSTABLE", 8);
    check(!finish(&b, &info) && info.efi && !info.screen.size, "from UEFI there is no text screen");
    struct screen s = screen_of(0x80000000, 5120, 1280, 804, 32, FRAMEBUFFER_RGB);
    check(s.memory.v == 0x80000000 && s.columns == 160 && s.rows == 50 && s.pitch == 5120 &&
              s.size == 800 * 5120,
          "a framebuffer, in whole rows of text");
    check(screen_of(0x200000, 3200, 800, 600, 32, FRAMEBUFFER_RGB).size,
          "one in the middle of RAM");
    s = screen_of(0x80000000, 0x10000, 0x4000, 0xffffffff, 32, FRAMEBUFFER_RGB);
    check(s.size == FRAMEBUFFER_LIMIT && s.rows == 16, "a huge one is cut");
    check(!screen_of(0x80000000, 5120, 1280, 800, 24, FRAMEBUFFER_RGB).size, "odd pixels");
    check(!screen_of(0x80000000, 5120, 1281, 800, 32, FRAMEBUFFER_RGB).size, "a pitch too short");
    check(!screen_of(0x80000000, 0, 0, 800, 32, FRAMEBUFFER_RGB).size, "no columns");
    check(!screen_of(0x80000000, 5120, 1280, 8, 32, FRAMEBUFFER_RGB).size, "no rows");
    check(!screen_of(0x80000002, 5120, 1280, 800, 32, FRAMEBUFFER_RGB).size, "not aligned");
    check(!screen_of(~3ull, 5120, 1280, 800, 32, FRAMEBUFFER_RGB).size, "beyond all memory");
}

static void test_bad(void) {
    struct builder b;
    struct boot_info info;
    begin(&b);
    check(finish(&b, &info) != NULL, "no memory is refused");
    good(&b);
    check(finish(&b, &info) == NULL && parse(&b, b.size - 8, &info) != NULL,
          "longer than it says memory is");
    good(&b);
    module_add(&b, 0x400000, 0x400000, "empty", 6);
    check(finish(&b, &info) == NULL && info.module_count == 2, "an empty module is as none");
    good(&b);
    module_add(&b, 0x500000, 0x400000, "backward", 8);
    check(finish(&b, &info) != NULL, "a module that ends before it begins is refused");
    good(&b);
    module_add(&b, 0x400800, 0x500000, "crooked", 8);
    check(finish(&b, &info) != NULL, "a module off a page boundary is refused");
    good(&b);
    for (u32 i = 0; i < MAX_MODULES; i++)
        module_add(&b, 0x1000000 + i * 0x1000, 0x1000001 + i * 0x1000, "m", 2);
    check(finish(&b, &info) != NULL, "too many modules are refused");
    good(&b);
    char name[100];
    memset(name, 'x', sizeof(name));
    module_add(&b, 0x400000, 0x500000, name, sizeof(name));
    check(!finish(&b, &info) && strlen(info.modules[2].name) == 55,
          "a name without an end is cut off");
    good(&b);
    u32 zero_entry[2] = {0, 0};
    tag_add(&b, TAG_MEMORY_MAP, zero_entry, sizeof(zero_entry));
    check(finish(&b, &info) != NULL, "memory entries of size 0 are refused");
}

static void test_overlap(void) {
    static const struct memory_entry entries[] = {
        {0x100000, 0x700000, 1, 0}, {0x600000, 0x400000, 1, 0},     {0x300800, 0x800, 2, 0},
        {0xa00000, 0x100000, 1, 0}, {~0ull - 5, 100, 1, 0},         {0x900000, 0, 2, 0},
        {0x5000, 0x800, 1, 0},      {1ull << 50, 1ull << 40, 1, 0},
    };
    struct builder b;
    struct boot_info info;
    begin(&b);
    memory_add(&b, entries, ARRAY_SIZE(entries));
    check(!finish(&b, &info) && info.region_count == 2 && info.regions[0].start.v == 0x100000 &&
              info.regions[0].size == 0x200000 && info.regions[1].start.v == 0x301000 &&
              info.regions[1].size == 0x7ff000,
          "overlaps are merged, reserved memory taken out, nonsense left out");
}

static void test_many_regions(void) {
    static struct memory_entry entries[80];
    struct builder b;
    struct boot_info info;
    begin(&b);
    for (u64 pass = 0; pass < 3; pass++) {
        for (u64 i = 0; i < ARRAY_SIZE(entries); i++)
            entries[i] = (struct memory_entry){(pass * 80 + i + 1) * 0x10000, 0x1000, 1, 0};
        memory_add(&b, entries, ARRAY_SIZE(entries));
    }
    check(!finish(&b, &info) && info.region_count == MAX_REGIONS, "too many regions are cut off");
}

/* Whatever one byte says, and wherever it ends: an answer, no stray read, and only sane results. */
static void test_damage(void) {
    struct builder b;
    struct boot_info info;
    bool sane = true;
    good(&b);
    (void)finish(&b, &info);
    for (u32 at = 0; at < b.size; at++) {
        for (unsigned value = 0; value < 256; value += 5) {
            struct builder damaged = b;
            damaged.bytes[at] ^= (u8)(value + 1);
            if (parse(&damaged, damaged.size, &info)) continue;
            for (u32 i = 0; i < info.region_count; i++)
                sane &= info.regions[i].start.v % PAGE_SIZE == 0 && info.regions[i].size &&
                        (!i || info.regions[i - 1].start.v + info.regions[i - 1].size <
                                   info.regions[i].start.v);
            for (u32 i = 0; i < info.module_count; i++)
                sane &= info.modules[i].size && !info.modules[i].name[55];
        }
    }
    for (u32 size = 0; size < b.size; size++)
        sane &= parse(&b, size, &info) != NULL;
    check(sane, "damage at every byte, and every truncation");
}

int main(void) {
    test_good();
    test_screen();
    test_bad();
    test_overlap();
    test_many_regions();
    test_damage();
    return unit_result();
}
