// SHA-256 (FIPS 180-4) of bytes in linear memory.

// prettier-ignore
const K: StaticArray<u32> = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
  0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
  0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
  0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
  0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
  0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
  0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
  0xc67178f2,
];

export const SHA256_SIZE: u32 = 32;
const BLOCK: u32 = 64;

const state: usize = memory.data(32, 4);
const words: usize = memory.data(256, 4);
const tail: usize = memory.data(128, 4);

function bigEndian(at: usize): u32 {
  return bswap(load<u32>(at));
}

/** Begins a hash of several pieces. */
export function sha256Start(): void {
  // prettier-ignore
  const first: StaticArray<u32> = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  ];
  for (let i = 0; i < 8; i++) store<u32>(state + i * 4, first[i]);
}

/** The message schedule of the block at `at`. */
function expand(at: usize): void {
  for (let i: u32 = 0; i < 16; i++) store<u32>(words + i * 4, bigEndian(at + i * 4));
  for (let i: u32 = 16; i < 64; i++) {
    const w15 = load<u32>(words + (i - 15) * 4);
    const w2 = load<u32>(words + (i - 2) * 4);
    const s0 = rotr<u32>(w15, 7) ^ rotr<u32>(w15, 18) ^ (w15 >> 3);
    const s1 = rotr<u32>(w2, 17) ^ rotr<u32>(w2, 19) ^ (w2 >> 10);
    store<u32>(words + i * 4, load<u32>(words + (i - 16) * 4) + s0 + load<u32>(words + (i - 7) * 4) + s1);
  }
}

function takeBlock(at: usize): void {
  expand(at);
  let a = load<u32>(state);
  let b = load<u32>(state, 4);
  let c = load<u32>(state, 8);
  let d = load<u32>(state, 12);
  let e = load<u32>(state, 16);
  let f = load<u32>(state, 20);
  let g = load<u32>(state, 24);
  let h = load<u32>(state, 28);
  for (let i: u32 = 0; i < 64; i++) {
    const s1 = rotr<u32>(e, 6) ^ rotr<u32>(e, 11) ^ rotr<u32>(e, 25);
    const t1 = h + s1 + ((e & f) ^ (~e & g)) + unchecked(K[i]) + load<u32>(words + i * 4);
    const s0 = rotr<u32>(a, 2) ^ rotr<u32>(a, 13) ^ rotr<u32>(a, 22);
    const t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  store<u32>(state, load<u32>(state) + a);
  store<u32>(state, load<u32>(state, 4) + b, 4);
  store<u32>(state, load<u32>(state, 8) + c, 8);
  store<u32>(state, load<u32>(state, 12) + d, 12);
  store<u32>(state, load<u32>(state, 16) + e, 16);
  store<u32>(state, load<u32>(state, 20) + f, 20);
  store<u32>(state, load<u32>(state, 24) + g, 24);
  store<u32>(state, load<u32>(state, 28) + h, 28);
}

/** A piece that is whole blocks of 64 bytes. */
export function sha256Blocks(at: usize, length: u32): void {
  for (let done: u32 = 0; done < length; done += BLOCK) takeBlock(at + done);
}

/** The last piece, of any length; writes the hash of all `total` bytes, 32 bytes, to `to`. */
export function sha256End(to: usize, at: usize, length: u32, total: u64): void {
  const rest = length % BLOCK;
  sha256Blocks(at, length - rest);
  memory.fill(tail, 0, 2 * BLOCK);
  memory.copy(tail, at + length - rest, rest);
  store<u8>(tail + rest, 0x80);
  const end: u32 = rest + 9 > BLOCK ? 2 * BLOCK : BLOCK;
  store<u64>(tail + end - 8, bswap(total << 3));
  sha256Blocks(tail, end);
  for (let i = 0; i < 8; i++) store<u32>(to + i * 4, bswap(load<u32>(state + i * 4)));
}

/** Writes the hash of `length` bytes, 32 bytes, to `to`; it may lie in what is hashed. */
export function sha256(to: usize, at: usize, length: u32): void {
  sha256Start();
  sha256End(to, at, length, length);
}
