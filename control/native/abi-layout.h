/*
 * Expands the structures of kernel/abi.def to control/gen/layout.ts: AssemblyScript classes over raw
 * memory, `changetype<ExitMessage>(address)`. A field is an accessor at its offset, an array a
 * `Cells<type>` that is indexed without a bounds check.
 */
#define ABI_CONST(NAME, value)
#define ABI_CONST64(NAME, value)
#define ABI_ENUM(Name, PREFIX)
#define ABI_VALUE(PREFIX, NAME, value)
#define ABI_ENUM_END(Name)
#define ABI_STRUCT(Name, c_name, size) @unmanaged export class Name {
#define ABI_FIELD(c_name, type, name, offset) \
    @inline get name(): type { return load<type>(changetype<usize>(this), offset); } \
    @inline set name(value: type) { store<type>(changetype<usize>(this), value, offset); }
#define ABI_ARRAY(c_name, type, name, offset, n) \
    @inline get name(): Cells<type> { return changetype<Cells<type>>(changetype<usize>(this) + offset); }
#define ABI_STRUCT_END(Name, c_name, size) }
@unmanaged export class Cells<T> {
    @inline @operator("[]") private get(index: u32): T {
        return load<T>(changetype<usize>(this) + <usize>index * sizeof<T>());
    }
    @inline @operator("[]=") private set(index: u32, value: T): void {
        store<T>(changetype<usize>(this) + <usize>index * sizeof<T>(), value);
    }
    @inline get address(): usize { return changetype<usize>(this); }
}
#include "abi.def"
