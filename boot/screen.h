/* What a person sees who sits before the machine: text, in VGA's text memory or drawn in a
   framebuffer. */
#pragma once

#include "types.h"

#define FONT_WIDTH  8 /* pixels of a character */
#define FONT_HEIGHT 16

struct screen {
    struct hpa memory;
    u64 size;          /* bytes of it; 0: no screen */
    u32 columns, rows; /* of characters */
    u32 pitch;         /* bytes from one line of pixels to the next; 0: text memory */
};

/* Clears the screen, whose memory is mapped there; NULL: nothing is shown any more. */
void screen_set(const struct screen *screen, void *memory);
/* Nothing scrolls: behind the last row comes the first one, and the row below is blank. */
void screen_put(char c);
