/* Characters on VGA's text screen, or drawn in a framebuffer of 32-bit pixels. */
#include "screen.h"

#define TEXT_GREY  0x0700u /* on black */
#define PIXEL_GREY 0xaaaaaau
#define PIXEL_SIZE sizeof(u32)

extern const u8 font[][FONT_HEIGHT]; /* font.S: from the blank to the tilde */

static struct screen screen;
static u8 *memory;
static u32 row, column;

static void cell_draw(u32 x, u32 y, char c) {
    if (!screen.pitch) {
        ((volatile u16 *)memory)[y * screen.columns + x] = (u16)(TEXT_GREY | (u8)c);
        return;
    }
    u8 *line = memory + (u64)y * FONT_HEIGHT * screen.pitch + x * FONT_WIDTH * PIXEL_SIZE;
    for (u32 i = 0; i < FONT_HEIGHT; i++, line += screen.pitch)
        for (u32 bit = 0; bit < FONT_WIDTH; bit++)
            ((volatile u32 *)line)[bit] = font[c - ' '][i] & 0x80 >> bit ? PIXEL_GREY : 0;
}

static void row_clear(u32 y) {
    for (u32 x = 0; x < screen.columns; x++)
        cell_draw(x, y, ' ');
}

void screen_set(const struct screen *to, void *mapped) {
    screen = *to;
    memory = screen.size ? mapped : NULL;
    row = column = 0;
    for (u32 y = 0; memory && y < screen.rows; y++)
        row_clear(y);
}

void screen_put(char c) {
    if (!memory) return;
    if (c == '\n' || column == screen.columns) {
        column = 0;
        row = (row + 1) % screen.rows;
        row_clear((row + 1) % screen.rows);
    }
    if (c >= ' ' && c <= '~') cell_draw(column++, row, c);
}
