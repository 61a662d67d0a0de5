// CRC-32C (Castagnoli) of bytes in linear memory.

const table: usize = memory.data(1024, 4);

function fillTable(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >> 1) ^ 0x82f63b78 : value >> 1;
    store<u32>(table + i * 4, value);
  }
}
fillTable();

/** The checksum; pass an earlier result to continue it. */
export function crc32c(at: usize, length: u32, before: u32 = 0): u32 {
  let crc = ~before;
  const end = at + length;
  while (at < end) {
    crc = (crc >> 8) ^ load<u32>(table + <usize>((crc ^ load<u8>(at)) & 0xff) * 4);
    at++;
  }
  return ~crc;
}
