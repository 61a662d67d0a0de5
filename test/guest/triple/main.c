/* A fault that nobody can handle: no handler, none for that, none for the double fault. */
#include "guest.h"

const char title[] = "triple";

void test_main(void) {
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) nothing = {0, 0};
    print("about to triple-fault\n");
    __asm__ volatile("lidt %0; ud2" ::"m"(nothing));
}
