/* A small printf. */
#include "log.h"

struct output {
    char *to;
    unsigned size, at;
};

static void put(struct output *out, char c) {
    if (out->at + 1 < out->size) out->to[out->at++] = c;
}

struct field {
    unsigned width;
    bool left, zero;
};

static void put_field(struct output *out, struct field field, const char *text, unsigned length) {
    unsigned padding = field.width > length ? field.width - length : 0;
    bool negative = field.zero && length && *text == '-';
    if (negative) put(out, '-');
    for (unsigned i = 0; !field.left && i < padding; i++)
        put(out, field.zero ? '0' : ' ');
    for (unsigned i = negative; i < length; i++)
        put(out, text[i]);
    for (unsigned i = 0; field.left && i < padding; i++)
        put(out, ' ');
}

static void put_number(struct output *out, struct field field, u64 value, unsigned base,
                       bool negative) {
    char digits[24];
    unsigned at = sizeof(digits);
    do
        digits[--at] = "0123456789abcdef"[value % base];
    while ((value /= base));
    if (negative) digits[--at] = '-';
    put_field(out, field, digits + at, sizeof(digits) - at);
}

static void put_string(struct output *out, struct field field, const char *text) {
    unsigned length = 0;
    if (!text) text = "(null)";
    while (text[length])
        length++;
    put_field(out, field, text, length);
}

static unsigned read_number(const char **format) {
    unsigned value = 0;
    for (; **format >= '0' && **format <= '9'; (*format)++)
        value = value * 10 + (unsigned)(**format - '0');
    return value;
}

unsigned text_format_list(char *to, unsigned size, const char *format, va_list list) {
    struct output out = {to, size, 0};
    va_list arguments;
    va_copy(arguments, list);
    for (; *format; format++) {
        if (*format != '%') {
            put(&out, *format);
            continue;
        }
        struct field field = {0};
        bool is_long = false;
        for (format++; *format == '-' || *format == '0'; format++)
            *(*format == '-' ? &field.left : &field.zero) = true;
        field.width = read_number(&format);
        for (; *format == 'l'; format++)
            is_long = true;
        switch (*format) {
        case 's': put_string(&out, field, va_arg(arguments, const char *)); break;
        case 'd': {
            i64 value = is_long ? va_arg(arguments, i64) : va_arg(arguments, int);
            put_number(&out, field, value < 0 ? -(u64)value : (u64)value, 10, value < 0);
            break;
        }
        case 'u':
        case 'x': {
            u64 value = is_long ? va_arg(arguments, u64) : va_arg(arguments, unsigned);
            put_number(&out, field, value, *format == 'x' ? 16 : 10, false);
            break;
        }
        case '%': put(&out, '%'); break;
        default: /* not one of ours: the arguments behind it cannot be found */
            put(&out, '?');
            while (*format && format[1])
                format++;
            if (!*format) format--;
        }
    }
    if (size) to[out.at] = 0;
    va_end(arguments);
    return out.at;
}

unsigned text_format(char *to, unsigned size, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    unsigned length = text_format_list(to, size, format, arguments);
    va_end(arguments);
    return length;
}
