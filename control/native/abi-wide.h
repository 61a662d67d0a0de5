/*
 * Expands the 64-bit constants of kernel/abi.def: with ABI_FOR_NODE to control/gen/abi64-node.ts
 * (bigint), else to control/gen/abi64.ts (AssemblyScript, u64).
 */
#define ABI_CONST(NAME, value)
#ifdef ABI_FOR_NODE
#define ABI_CONST64(NAME, value) export const NAME = value##n;
#else
#define ABI_CONST64(NAME, value) export const NAME: u64 = value;
#endif
#define ABI_ENUM(Name, PREFIX)
#define ABI_VALUE(PREFIX, NAME, value)
#define ABI_ENUM_END(Name)
#define ABI_STRUCT(Name, c_name, size)
#define ABI_FIELD(c_name, type, name, offset)
#define ABI_ARRAY(c_name, type, name, offset, n)
#define ABI_STRUCT_END(Name, c_name, size)
#include "abi.def"
