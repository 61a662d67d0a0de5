/*
 * Expands kernel/abi.def to control/gen/abi.ts: constants, enumerations and structure offsets that
 * asc, esbuild and tsc read alike. 64-bit constants are in gen/abi64.ts (asc) and gen/abi64-node.ts.
 */
#define ABI_CONST(NAME, value) export const NAME = value;
#define ABI_CONST64(NAME, value)
#define ABI_ENUM(Name, PREFIX) export const enum Name {
#define ABI_VALUE(PREFIX, NAME, value) NAME = value,
#define ABI_ENUM_END(Name) }
#define ABI_STRUCT(Name, c_name, size) export const enum Name##At {
#define ABI_FIELD(c_name, type, name, offset) name = offset,
#define ABI_ARRAY(c_name, type, name, offset, n) name = offset,
#define ABI_STRUCT_END(Name, c_name, size) SIZE = size, }
#include "abi.def"
