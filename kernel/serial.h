/* COM1 as an output, for the log. */
#pragma once

void serial_init(void); /* 115200 8N1, no interrupts */
void serial_put(char c);
