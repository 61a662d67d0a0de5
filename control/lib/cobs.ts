// Consistent Overhead Byte Stuffing: bytes without a 0 among them, so that 0 can delimit frames.

/** The most bytes that `length` bytes take when encoded, without delimiters. */
export function cobsBound(length: u32): u32 {
  return length + length / 254 + 1;
}

/** Encodes to `to` (cobsBound bytes, not overlapping) without delimiters; returns the length. */
export function cobsEncode(to: usize, from: usize, length: u32): u32 {
  const start = to;
  const end = from + length;
  let code = to++;
  let run: u32 = 1;
  while (from < end) {
    const byte = load<u8>(from++);
    if (byte != 0) {
      store<u8>(to++, byte);
      run++;
    }
    if (byte == 0 || (run == 255 && from < end)) {
      store<u8>(code, <u8>run);
      code = to++;
      run = 1;
    }
  }
  store<u8>(code, <u8>run);
  return <u32>(to - start);
}

/** Decodes what stood between two delimiters; `to` may be `from`. Returns the length, -1: malformed. */
export function cobsDecode(to: usize, from: usize, length: u32): i32 {
  const start = to;
  const end = from + length;
  while (from < end) {
    const run = <usize>load<u8>(from++);
    if (run == 0 || run - 1 > end - from) return -1;
    for (let i: usize = 1; i < run; i++) {
      const byte = load<u8>(from++);
      if (byte == 0) return -1;
      store<u8>(to++, byte);
    }
    if (run < 255 && from < end) store<u8>(to++, 0);
  }
  return <i32>(to - start);
}
