/* Interrupts that are off stay off: none arrives while one waits, whatever the host's devices do meanwhile. */
#include "guest.h"

const char title[] = "masked";

#define VECTOR 0x41
#define ROUNDS 200
#define SPIN   40000 /* ticks; in them the host's serial line is done with a character */

static volatile u32 arrived;

static void note(struct frame *frame) {
    (void)frame;
    arrived++;
    wrmsr(APIC_EOI, 0);
}

static void open_window(void) { __asm__ volatile("sti; nop; cli" ::: "memory"); }

void test_main(void) {
    u32 early = 0, in_time = 0;
    apic_enable();
    handlers[VECTOR] = note;
    for (u32 i = 0; i < ROUNDS; i++) {
        print(".");
        open_window(); /* some CPUs hold off the host's interrupts until a guest has changed IF (Bochs does) */
        arrived = 0;
        wrmsr(APIC_SELF_IPI, VECTOR);
        for (u64 start = rdtsc(); rdtsc() - start < SPIN;)
            ;
        early += arrived;
        open_window();
        in_time += arrived;
    }
    print("\n");
    CHECK_EQUAL(early, 0);
    CHECK_EQUAL(in_time, ROUNDS);
}
