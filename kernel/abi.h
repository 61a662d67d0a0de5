/* The C expansion of abi.def: enumerations, structures, and an assertion for every offset and size.
 */
#pragma once

#include "types.h"

#define ABI_CONST(name, value)   enum { name = value };
#define ABI_CONST64(name, value) static const u64 name __attribute__((unused)) = value##ull;
#define ABI_ENUM(name, prefix)
#define ABI_VALUE(prefix, name, value) enum { prefix##_##name = value };
#define ABI_ENUM_END(name)
#define ABI_STRUCT(name, c_name, size)               struct c_name {
#define ABI_FIELD(c_name, type, name, offset)        type name;
#define ABI_ARRAY(c_name, type, name, offset, count) type name[count];
#define ABI_STRUCT_END(name, c_name, size)                                                         \
    }                                                                                              \
    ;
#include "abi.def"
#undef ABI_CONST
#undef ABI_CONST64
#undef ABI_VALUE
#undef ABI_STRUCT
#undef ABI_FIELD
#undef ABI_ARRAY
#undef ABI_STRUCT_END

#define ABI_CONST(name, value)
#define ABI_CONST64(name, value)
#define ABI_VALUE(prefix, name, value)
#define ABI_STRUCT(name, c_name, size)
#define ABI_FIELD(c_name, type, name, offset)                                                      \
    _Static_assert(__builtin_offsetof(struct c_name, name) == offset, #c_name "." #name);
#define ABI_ARRAY(c_name, type, name, offset, count)                                               \
    _Static_assert(__builtin_offsetof(struct c_name, name) == offset, #c_name "." #name);
#define ABI_STRUCT_END(name, c_name, size) _Static_assert(sizeof(struct c_name) == size, #c_name);
#include "abi.def"
#undef ABI_CONST
#undef ABI_CONST64
#undef ABI_ENUM
#undef ABI_VALUE
#undef ABI_ENUM_END
#undef ABI_STRUCT
#undef ABI_FIELD
#undef ABI_ARRAY
#undef ABI_STRUCT_END
