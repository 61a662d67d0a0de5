/* Resets the machine through `port=`, with `value=`: it must not come back. */
#include "guest.h"

const char title[] = "reset";

void test_main(void) {
    u16 port = (u16)word_value("port");
    CHECK(port != 0);
    if (port == 0x64) CHECK_EQUAL(in8(port) & 2, 0); /* the controller takes commands */
    out8(port, (u8)word_value("value"));
    error("the machine goes on behind its reset");
}
