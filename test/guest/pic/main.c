/* The two 8259A: masks, edges and levels, priorities, what is in service, its ends, the cascade. */
#include "chips.h"

const char title[] = "pic";

#define COM1_IER 0x3f9
#define COM1_IIR 0x3fa
#define COM1_MCR 0x3fc
#define THRE     2
#define OUT2     8
#define ELCR     0x4d0

static volatile u32 order[8], count;
static volatile u8 in_service[8];
static volatile bool ends = true;

static void note(struct frame *frame) {
    unsigned irq = (unsigned)frame->vector - PIC_VECTOR;
    in_service[count & 7] = pic_read(PIC_MASTER, OCW3_ISR);
    order[count++ & 7] = irq;
    if (irq == IRQ_COM1) in8(COM1_IIR); /* its line falls */
    if (irq == IRQ_RTC) cmos_read(0x0c);
    if (ends) pic_eoi(irq);
}

/* The line of COM1 falls, and rises if it is to. */
static void com1(bool up) {
    out8(COM1_IER, 0);
    out8(COM1_IER, up ? THRE : 0);
}

static u32 taken(void) {
    count = 0;
    open_window();
    return count;
}

static u8 requests(void) { return pic_read(PIC_MASTER, OCW3_IRR); }

/* The timer's output rises; it stays up. */
static void raise_timer(void) {
    out8(0x43, 0x30);
    out8(0x40, 2);
    out8(0x40, 0);
    CHECK(COMES_TRUE(requests() & 1 << IRQ_TIMER));
}

static void raise_rtc(void) {
    cmos_read(0x0c);
    cmos_write(0x0b, 0x42); /* periodic */
    CHECK(COMES_TRUE(pic_read(PIC_SLAVE, OCW3_IRR) & 1));
    cmos_write(0x0b, 0x02);
}

static void check_masks(void) {
    CHECK_EQUAL(in8(PIC_MASTER + 1), 0xff);
    CHECK_EQUAL(in8(PIC_SLAVE + 1), 0xff);
    pic_start(0);
    com1(true);
    CHECK_EQUAL(requests(), 1 << IRQ_COM1);
    CHECK_EQUAL(taken(), 0);
    out8(PIC_MASTER + 1, (u8) ~(1 << IRQ_COM1));
    CHECK_EQUAL(taken(), 1);
    CHECK_EQUAL(order[0], IRQ_COM1);
    CHECK_EQUAL(in_service[0], 1 << IRQ_COM1);
    CHECK_EQUAL(requests(), 0);
    CHECK_EQUAL(pic_read(PIC_MASTER, OCW3_ISR), 0);
    com1(false);
}

/* An input in service keeps itself and all below it out until its end. */
static void check_end(void) {
    ends = false;
    com1(true);
    CHECK_EQUAL(taken(), 1);
    com1(true);
    CHECK_EQUAL(taken(), 0);
    CHECK_EQUAL(requests(), 1 << IRQ_COM1);
    ends = true;
    out8(PIC_MASTER, 0x60 | IRQ_TIMER); /* a specific end of another one */
    CHECK_EQUAL(taken(), 0);
    out8(PIC_MASTER, 0x60 | IRQ_COM1);
    CHECK_EQUAL(taken(), 1);
    com1(false);
}

static void check_priorities(void) {
    pic_start(1 << IRQ_COM1 | 1 << IRQ_TIMER);
    com1(true);
    raise_timer();
    CHECK_EQUAL(taken(), 2);
    CHECK_EQUAL(order[0] << 8 | order[1], IRQ_TIMER << 8 | IRQ_COM1);
    out8(PIC_MASTER, 0xc0 | 3); /* input 3 is the lowest, 4 the highest */
    com1(true);
    raise_timer();
    CHECK_EQUAL(taken(), 2);
    CHECK_EQUAL(order[0] << 8 | order[1], IRQ_COM1 << 8 | IRQ_TIMER);
    out8(PIC_MASTER, 0xc0 | 7);
    com1(false);
}

/* Special mask mode: only masked inputs that are in service let lower ones in. */
static void check_special_mask(void) {
    pic_start(1 << IRQ_COM1 | 1 << IRQ_TIMER);
    ends = false;
    raise_timer();
    CHECK_EQUAL(taken(), 1);
    com1(true);
    CHECK_EQUAL(taken(), 0);
    out8(PIC_MASTER, 0x68);
    out8(PIC_MASTER + 1, (u8) ~(1 << IRQ_COM1));
    CHECK_EQUAL(taken(), 1);
    CHECK_EQUAL(in_service[0], 1 << IRQ_COM1 | 1 << IRQ_TIMER);
    out8(PIC_MASTER, 0x48);
    ends = true;
    com1(false);
}

static void check_automatic_end(void) {
    pic_start(0);
    pic_init(PIC_MASTER, PIC_VECTOR, 3);
    out8(PIC_MASTER + 1, (u8) ~(1 << IRQ_COM1));
    ends = false;
    com1(true);
    CHECK_EQUAL(taken(), 1);
    CHECK_EQUAL(in_service[0], 0);
    com1(true);
    CHECK_EQUAL(taken(), 1);
    ends = true;
    com1(false);
}

static void check_cascade(void) {
    pic_start(1 << IRQ_RTC | 1 << IRQ_COM1);
    com1(true);
    raise_rtc();
    CHECK_EQUAL(requests(), 1 << 2 | 1 << IRQ_COM1);
    CHECK_EQUAL(taken(), 2);
    CHECK_EQUAL(order[0] << 8 | order[1], IRQ_RTC << 8 | IRQ_COM1);
    CHECK_EQUAL(in_service[0], 1 << 2);
    CHECK_EQUAL(pic_read(PIC_SLAVE, OCW3_ISR), 0);
    CHECK_EQUAL(requests(), 0);
    com1(false);
}

/* A level asks again for as long as it is up, and is forgotten when it falls. */
static void check_level(void) {
    pic_start(0);
    out8(ELCR, 1 << IRQ_COM1);
    CHECK_EQUAL(in8(ELCR), 1 << IRQ_COM1);
    com1(true);
    CHECK_EQUAL(requests(), 1 << IRQ_COM1);
    com1(false);
    CHECK_EQUAL(requests(), 0);
    out8(ELCR, 0xff);
    CHECK_EQUAL(in8(ELCR), 0xf8); /* 0 to 2 are always edges */
    out8(ELCR, 0);
}

void test_main(void) {
    for (unsigned irq = 0; irq < 16; irq++)
        handlers[PIC_VECTOR + irq] = note;
    out8(COM1_MCR, OUT2);
    check_masks();
    check_end();
    check_priorities();
    check_special_mask();
    check_automatic_end();
    check_cascade();
    check_level();
}
