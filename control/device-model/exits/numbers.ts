// Operands of 1 to 8 bytes in 64-bit integers.

/** All ones in the low `size` bytes. */
export function maskOf(size: u32): u64 {
  return size >= 8 ? ~0 : ((<u64>1) << (size * 8)) - 1;
}

/** Sign-extends a value of `size` bytes. */
export function signExtend(value: u64, size: u32): u64 {
  const shift = <u64>(64 - size * 8);
  return <u64>((<i64>(value << shift)) >> shift);
}

/** Reverses the order of the low `size` bytes. */
export function swapBytes(value: u64, size: u32): u64 {
  return bswap(value) >> (64 - 8 * size);
}
