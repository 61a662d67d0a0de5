// Text for people: numbers, sizes, durations, columns, and strings that came from elsewhere.

/** 4096 -> "4,096". */
export function grouped(value: u64): string {
  let digits = value.toString();
  let out = "";
  while (digits.length > 3) {
    out = "," + digits.substring(digits.length - 3) + out;
    digits = digits.substring(0, digits.length - 3);
  }
  return digits + out;
}

/** Bytes in MiB, with a decimal where there are few: "128 MiB", "4,096 MiB", "0.6 MiB". */
export function mib(bytes: u64): string {
  const whole = bytes >> 20;
  if (whole >= 10) return grouped(whole) + " MiB";
  const tenths = ((bytes & 0xfffff) * 10) >> 20;
  return whole.toString() + (tenths > 0 ? "." + tenths.toString() : "") + " MiB";
}

export function kib(bytes: u64): string {
  return grouped((bytes + 1023) >> 10) + " KiB";
}

/** Milliseconds as "850 ms", "12 s", "3 min 20 s", "2 h 5 min" or "4 d 2 h". */
export function duration(ms: u64): string {
  if (ms < 1000) return ms.toString() + " ms";
  const s = ms / 1000;
  if (s < 60) return s.toString() + " s";
  if (s < 3600) return (s / 60).toString() + " min " + (s % 60).toString() + " s";
  if (s < 86400) return (s / 3600).toString() + " h " + ((s / 60) % 60).toString() + " min";
  return (s / 86400).toString() + " d " + ((s / 3600) % 24).toString() + " h";
}

/** Milliseconds as seconds with three decimals, right-aligned: "   12.345". */
export function stamp(ms: u64): string {
  return ((ms / 1000).toString() + "." + (ms % 1000).toString().padStart(3, "0")).padStart(9, " ");
}

/** One line of columns; the last is not padded. */
export function row(cells: string[], widths: i32[]): string {
  let out = "";
  for (let i = 0; i < cells.length; i++) {
    const last = i == cells.length - 1;
    out += last ? cells[i] : cells[i].padEnd(widths[i], " ") + " ";
  }
  return out;
}

/** At most `width` characters, the last of them "~" when something was cut. */
export function fit(text: string, width: i32): string {
  return text.length <= width ? text : text.substring(0, width - 1) + "~";
}

function isControl(code: i32): bool {
  return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

/** A string of unknown origin: one line, no control characters, bounded. */
export function clean(text: string, limit: i32 = 200): string {
  const end = min(text.length, limit);
  let first = 0;
  while (first < end && !isControl(text.charCodeAt(first))) first++;
  let out = text.substring(0, first);
  for (let i = first; i < end; i++)
    out += isControl(text.charCodeAt(i)) ? "?" : String.fromCharCode(text.charCodeAt(i));
  return text.length > limit ? out + "..." : out;
}

/** The text of a zero-padded field of `size` bytes, ASCII only. */
export function fieldText(at: usize, size: i32): string {
  let out = "";
  for (let i = 0; i < size; i++) {
    const c = load<u8>(at + i);
    if (c == 0) break;
    out += c >= 0x20 && c < 0x7f ? String.fromCharCode(c) : "?";
  }
  return out.trim();
}

/** "1 VM", "2 VMs". */
export function counted(count: u64, noun: string): string {
  return grouped(count) + " " + noun + (count == 1 ? "" : "s");
}

export function quoted(text: string): string {
  return '"' + clean(text, 60) + '"';
}

/** Bytes in hexadecimal. */
export function hex(bytes: StaticArray<u8>): string {
  let out = "";
  for (let i = 0; i < bytes.length; i++) out += (<u32>bytes[i]).toString(16).padStart(2, "0");
  return out;
}

/** The bytes of a string as UTF-8. */
export function utf8(text: string): StaticArray<u8> {
  const out = new StaticArray<u8>(String.UTF8.byteLength(text));
  String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, changetype<usize>(out));
  return out;
}

/** Parses "128M", "1G", "512K" or a number of bytes; -1 when it is none of these. */
export function parseSize(text: string): i64 {
  if (text.length == 0 || text.length > 16) return -1;
  let shift = 0;
  let end = text.length;
  const unit = text.charAt(end - 1).toUpperCase();
  if (unit == "K") shift = 10;
  else if (unit == "M") shift = 20;
  else if (unit == "G") shift = 30;
  if (shift > 0) end--;
  const number = parseNumber(text.substring(0, end));
  if (number < 0 || number > 0x7fffffff) return shift == 0 ? number : -1;
  return number << shift;
}

/** Parses a decimal number of at most 15 digits; -1 when it is none. */
export function parseNumber(text: string): i64 {
  if (text.length == 0 || text.length > 15) return -1;
  let value: i64 = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x30 || c > 0x39) return -1;
    value = value * 10 + (c - 0x30);
  }
  return value;
}

/** How many single-letter edits turn `a` into `b`, for "did you mean". */
export function distance(a: string, b: string): i32 {
  const width = b.length + 1;
  const costs = new StaticArray<i32>(width);
  for (let j = 0; j < width; j++) costs[j] = j;
  for (let i = 1; i <= a.length; i++) {
    let diagonal = costs[0];
    costs[0] = i;
    for (let j = 1; j < width; j++) {
      const above = costs[j];
      const change = diagonal + (a.charCodeAt(i - 1) == b.charCodeAt(j - 1) ? 0 : 1);
      costs[j] = min(change, min(above, costs[j - 1]) + 1);
      diagonal = above;
    }
  }
  return costs[width - 1];
}

/** The word of `words` nearest to `word`, or "" when none is near. */
export function nearest(word: string, words: string[]): string {
  let best = "";
  let cost = word.length <= 3 ? 2 : 3;
  for (let i = 0; i < words.length; i++) {
    if (word.length > 1 && words[i].startsWith(word)) return words[i];
    const found = distance(word, words[i]);
    if (found < cost) {
      best = words[i];
      cost = found;
    }
  }
  return best;
}
