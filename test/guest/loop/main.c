/* Takes the CPU for ever, with interrupts off: only its owner can end it. */
#include "guest.h"

const char title[] = "loop";

void test_main(void) {
    interrupts_off();
    print("looping\n");
    for (;;)
        __asm__ volatile("");
}
