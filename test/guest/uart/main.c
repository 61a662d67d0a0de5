/* The 16550A: registers, loopback, FIFOs, the order of its interrupts, modem lines. */
#include "chips.h"

const char title[] = "uart";

#define DATA 0x3f8
#define IER  0x3f9
#define IIR  0x3fa
#define FCR  0x3fa
#define LCR  0x3fb
#define MCR  0x3fc
#define LSR  0x3fd
#define MSR  0x3fe
#define SCR  0x3ff

#define LOOP    0x10
#define OUT2    0x08
#define READY   0x01
#define OVERRUN 0x02
#define EMPTY   0x60

static volatile u32 interrupts;

static void on_com1(struct frame *frame) {
    (void)frame;
    interrupts++;
    pic_eoi(IRQ_COM1);
}

static u32 taken(void) {
    interrupts = 0;
    open_window();
    return interrupts;
}

static void check_registers(void) {
    out8(SCR, 0xa5);
    CHECK_EQUAL(in8(SCR), 0xa5);
    out8(LCR, 0x83);
    out8(DATA, 0x0c);
    out8(IER, 0x01);
    CHECK_EQUAL(in8(DATA) | in8(IER) << 8, 0x010c);
    out8(LCR, 0x03);
    CHECK_EQUAL(in8(LCR), 0x03);
    CHECK_EQUAL(in8(IER), 0);
    out8(IER, 0xff);
    CHECK_EQUAL(in8(IER), 0x0f);
    out8(IER, 0);
    CHECK_EQUAL(in8(IIR), 0x01); /* no FIFO, nothing pending */
    out8(FCR, 0x07);
    CHECK_EQUAL(in8(IIR), 0xc1);
    CHECK_EQUAL(in8(LSR) & (EMPTY | READY), EMPTY);
    CHECK_EQUAL(in8(MSR) & 0xf0, 0xb0); /* carrier, data set ready, clear to send */
}

static void check_loop(void) {
    out8(MCR, LOOP);
    for (unsigned i = 0; i < 16; i++)
        out8(DATA, (u8)(0x30 + i));
    CHECK_EQUAL(in8(LSR) & (READY | OVERRUN), READY);
    out8(DATA, 0xff); /* the FIFO is full */
    CHECK_EQUAL(in8(LSR) & OVERRUN, OVERRUN);
    CHECK_EQUAL(in8(LSR) & OVERRUN, 0); /* reading has cleared it */
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQUAL(in8(DATA), 0x30 + i);
    CHECK_EQUAL(in8(LSR) & READY, 0);
    out8(DATA, 0x41);
    out8(FCR, 0x03); /* clears the receiver */
    CHECK_EQUAL(in8(LSR) & READY, 0);
    out8(MCR, 0);
}

/* Modem control comes back as modem status: RTS, DTR, OUT1, OUT2 as CTS, DSR, RI, DCD. */
static void check_modem(void) {
    out8(MCR, LOOP);
    in8(MSR);
    out8(MCR, LOOP | 0x03);
    CHECK_EQUAL(in8(MSR), 0x33);
    CHECK_EQUAL(in8(MSR), 0x30); /* the changes are told once */
    out8(MCR, LOOP | 0x0c);
    CHECK_EQUAL(in8(MSR), 0xcb);
    out8(MCR, LOOP);
    CHECK_EQUAL(in8(MSR), 0x0c); /* RI counts when it falls */
    out8(MCR, 0);
    in8(MSR);
}

/* What is in IIR: line status before data before the transmitter before the modem. */
static void check_order(void) {
    out8(FCR, 0x07);
    out8(MCR, LOOP);
    in8(MSR);
    out8(MCR, LOOP | 1);
    for (unsigned i = 0; i < 17; i++)
        out8(DATA, 0x55);
    out8(IER, 0x0f);
    CHECK_EQUAL(in8(IIR), 0xc6);
    in8(LSR);
    CHECK_EQUAL(in8(IIR) & 0xf7, 0xc4);
    for (unsigned i = 0; i < 16; i++)
        in8(DATA);
    CHECK_EQUAL(in8(IIR), 0xc2);
    CHECK_EQUAL(in8(IIR), 0xc0); /* reading IIR has ended the transmitter's */
    in8(MSR);
    CHECK_EQUAL(in8(IIR), 0xc1);
    out8(IER, 0);
    out8(MCR, 0);
}

/* The interrupt reaches IRQ 4 through OUT2, and is an edge. */
static void check_interrupt(void) {
    pic_start(1 << IRQ_COM1);
    out8(IER, 0x02);
    CHECK_EQUAL(taken(), 0);
    out8(MCR, OUT2);
    CHECK_EQUAL(taken(), 1);
    CHECK_EQUAL(taken(), 0);
    CHECK_EQUAL(in8(IIR), 0xc2);
    CHECK_EQUAL(taken(), 0);
    out8(DATA, '\n');
    CHECK_EQUAL(taken(), 1);
    out8(IER, 0);
    out8(MCR, 0);
}

void test_main(void) {
    handlers[PIC_VECTOR + IRQ_COM1] = on_com1;
    check_registers();
    check_loop();
    check_modem();
    check_order();
    check_interrupt();
}
