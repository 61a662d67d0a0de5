// Consistent overhead byte stuffing: bytes without any zero, so that a zero can delimit frames.

/** Encodes; the result is never empty and holds no zero. */
export function cobsEncode(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length + Math.floor(bytes.length / 254) + 1);
  let code = 0; // where the length of the current block goes
  let end = 1;
  for (let n = 0; n < bytes.length; n++) {
    const byte = bytes[n]!;
    if (byte !== 0) out[end++] = byte;
    const length = end - code;
    if (byte === 0 || (length === 0xff && n + 1 < bytes.length)) {
      out[code] = length;
      code = end++;
    }
  }
  out[code] = end - code;
  return out.subarray(0, end);
}

/** Decodes what stood between two zeros; null if it is no valid encoding. */
export function cobsDecode(bytes: Uint8Array): Uint8Array | null {
  if (bytes.length === 0) return null;
  const out = new Uint8Array(bytes.length);
  let end = 0;
  let at = 0;
  while (at < bytes.length) {
    const code = bytes[at]!;
    const next = at + code;
    if (code === 0 || next > bytes.length) return null;
    for (at++; at < next; at++) {
      if (bytes[at] === 0) return null;
      out[end++] = bytes[at]!;
    }
    if (code !== 0xff && at < bytes.length) out[end++] = 0;
  }
  return out.subarray(0, end);
}
