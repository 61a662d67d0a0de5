/* The glyphs from the blank to the tilde, of a console font in the PSF 1 format (Makefile):
   four bytes of header, then 16 bytes for each character. */
#define PSF_HEADER 4
#define PSF_GLYPH 16

    .section .rodata
    .global font
font:
    .incbin "build/font.psf", PSF_HEADER + ' ' * PSF_GLYPH, ('~' - ' ' + 1) * PSF_GLYPH
