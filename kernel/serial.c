/* COM1, polled: 16550 registers as in any data sheet of the chip. */
#include "serial.h"

#include "x86.h"

enum {
    COM1 = 0x3f8,
    UART_DATA = COM1,
    UART_INTERRUPT_ENABLE = COM1 + 1,
    UART_FIFO_CONTROL = COM1 + 2,
    UART_LINE_CONTROL = COM1 + 3,
    UART_MODEM_CONTROL = COM1 + 4,
    UART_LINE_STATUS = COM1 + 5,
    UART_DIVISOR_LOW = COM1,
    UART_DIVISOR_HIGH = COM1 + 1,
};
#define FIFO_ENABLE_AND_CLEAR 0x07
#define LINE_8N1              0x03
#define LINE_DIVISOR          0x80
#define MODEM_DTR_RTS         0x03
#define STATUS_TRANSMIT_EMPTY 0x20
#define DIVISOR_115200        1
#define PATIENCE              200000 /* polls, far more than a character takes: a dead UART must not hang us */

void serial_init(void) {
    outb(UART_INTERRUPT_ENABLE, 0);
    outb(UART_LINE_CONTROL, LINE_DIVISOR);
    outb(UART_DIVISOR_LOW, DIVISOR_115200);
    outb(UART_DIVISOR_HIGH, 0);
    outb(UART_LINE_CONTROL, LINE_8N1);
    outb(UART_FIFO_CONTROL, FIFO_ENABLE_AND_CLEAR);
    outb(UART_MODEM_CONTROL, MODEM_DTR_RTS);
}

void serial_put(char c) {
    static bool dead;
    for (unsigned i = 0; !dead && !(inb(UART_LINE_STATUS) & STATUS_TRANSMIT_EMPTY); i++)
        dead = i == PATIENCE;
    if (!dead) outb(UART_DATA, (u8)c);
}
