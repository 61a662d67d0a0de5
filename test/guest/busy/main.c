/* Takes all the time that it gets, with interrupts on. */
#include "guest.h"

const char title[] = "busy";

void test_main(void) {
    interrupts_on();
    print("busy\n");
    for (;;)
        __asm__ volatile("");
}
