// with: kernel/text.c
/* The kernel's printf: the same as the C library's, and never beyond its buffer. */
#include "unit.h"

#define same(format, ...)                                                                          \
    ({                                                                                             \
        char ours[128], theirs[128];                                                               \
        unsigned length_ = text_format(ours, sizeof(ours), format, __VA_ARGS__);                   \
        snprintf(theirs, sizeof(theirs), format, __VA_ARGS__);                                     \
        !strcmp(ours, theirs) && length_ == strlen(theirs);                                        \
    })

int main(void) {
    check(same("%d %d %u %x", 0, -2147483647 - 1, 4294967295u, 0xdeadbeefu), "numbers");
    check(same("%ld %lu %lx", (long)-1, ~0ul, 0x123456789abcdeful), "long numbers");
    check(same("[%5d] [%-5d] [%05d] [%05d]", 42, 42, 42, -42), "widths");
    check(same("[%8s] [%-8s] %%", "abc", "abc"), "strings");
    check(same("[%08x] [%3x]", 0xabcu, 0x12345u), "hexadecimal widths");
    char small[8];
    memset(small, 'x', sizeof(small));
    check(text_format(small, 5, "%s", "abcdefgh") == 4 && !strcmp(small, "abcd") && small[5] == 'x',
          "cut off at the end of the buffer");
    check(text_format(small, 0, "abc") == 0 && small[0] == 'a', "a buffer of no bytes");
    check(text_format(small, 8, "a%pb", (void *)0) == 2 && !strcmp(small, "a?"), "what it lacks");
    const char *volatile unfinished = "a%";
    check(text_format(small, 8, unfinished) == 2 && !strcmp(small, "a?"),
          "a format that ends early");
    return unit_result();
}
