/* Ports: what is not there reads as ones and takes writes, in all sizes and by string instructions. */
#include "guest.h"

const char title[] = "port";

static const u16 absent[] = {0x00,  0x0f,  0x48,  0x81,   0xa2,   0xe9,   0xed,  0xf0,   0x170, 0x1f0,  0x278,
                             0x2f8, 0x378, 0x3e8, 0x3d4,  0x402,  0x530,  0x5f8, 0x700,  0xd00,
                             0x1000, 0x5658, 0x8000, 0xb004, 0xc000, 0xfff0, 0xfffc};
#define ABSENT (sizeof(absent) / sizeof(*absent))

static void check_absent(u16 port) {
    out8(port, 0x12);
    out16(port, 0x1234);
    out32(port, 0x12345678);
    bool ones = in8(port) == 0xff && in16(port) == 0xffff && in32(port) == ~0u;
    if (!ones)
        print("port 0x%x reads 0x%x\n", port, in32(port));
    check(ones, "an absent port reads as ones");
}

/* PCI configuration mechanism 1: the host bridge is there, a device that is not reads as ones. */
static void check_pci(void) {
    out32(0xcf8, 0x80000000);
    CHECK_EQUAL(in32(0xcf8), 0x80000000);
    check(in16(0xcfc) != 0xffff, "the host bridge has a vendor");
    out32(0xcf8, 0x80000000 | 31 << 11);
    CHECK_EQUAL(in32(0xcfc), 0xffffffff);
    out32(0xcf8, 0);
    CHECK_EQUAL(in32(0xcfc), 0xffffffff);
}

/* Only the part of RAX that IN names changes; 32 bits clear the upper half. */
static void check_merge(void) {
    u64 rax = 0x1122334455667788;
    __asm__ volatile("inb %%dx, %%al" : "+a"(rax) : "d"(0x5658));
    CHECK_EQUAL(rax, 0x11223344556677ff);
    __asm__ volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(0x5658));
    CHECK_EQUAL(rax, 0x112233445566ffff);
    __asm__ volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(0x5658));
    CHECK_EQUAL(rax, 0xffffffff);
}

static void check_strings(void) {
    static u8 buffer[48];
    void *to = buffer;
    u64 count = 32;
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x5658) : "memory");
    CHECK_EQUAL(count, 0);
    CHECK_EQUAL((u64)to, (u64)buffer + 32);
    CHECK_EQUAL(buffer[0] & buffer[31], 0xff);
    CHECK_EQUAL(buffer[32], 0);
    to = buffer + 28;
    count = 4;
    __asm__ volatile("std; rep insl; cld" : "+D"(to), "+c"(count) : "d"(0x5658) : "memory");
    CHECK_EQUAL((u64)to, (u64)buffer + 12);
    count = 0;
    to = buffer + 40;
    __asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(0x5658) : "memory");
    CHECK_EQUAL((u64)to, (u64)buffer + 40);
    CHECK_EQUAL(buffer[40], 0);
    const char *from = "written by OUTSB\n";
    count = 17;
    __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x3f8) : "memory");
    CHECK_EQUAL(count, 0);
    /* Into a page that is not mapped: a page fault, and nothing has moved. */
    to = window(3, 0);
    count = 3;
    CHECK_EQUAL(FAULT_OF("rep insb", : "+D"(to), "+c"(count) : "d"(0x5658) : "memory"), VECTOR_PF);
    CHECK_EQUAL(fault.cr2, WINDOW + 3 * 4096);
    CHECK_EQUAL(count, 3);
    /* Half of it mapped: the first two bytes arrive. */
    window(4, 0x100000 | PTE_PRESENT | PTE_WRITE);
    window(5, 0);
    to = (void *)(WINDOW + 5 * 4096 - 2);
    count = 4;
    CHECK_EQUAL(FAULT_OF("rep insb", : "+D"(to), "+c"(count) : "d"(0x5658) : "memory"), VECTOR_PF);
    CHECK_EQUAL(fault.cr2, WINDOW + 5 * 4096);
    CHECK_EQUAL(count, 2);
}

void test_main(void) {
    for (unsigned i = 0; i < ABSENT; i++)
        check_absent(absent[i]);
    check_pci();
    CHECK_EQUAL(in16(0xffff), 0xffff);
    check_merge();
    check_strings();
}
