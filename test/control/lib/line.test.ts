// CRC-32C, COBS, UTF-8 and number formatting of components.

import { test } from "uvu";
import * as assert from "uvu/assert";

import { loadLibrary, randomizer } from "./load";

const library = loadLibrary();
const { call } = library;

test("CRC-32C of the check string, in one piece and in two", () => {
  const length = library.put("123456789");
  for (let split = 0; split <= length; split++) assert.is(call["crc"]!(length, split) >>> 0, 0xe3069283);
  assert.is(call["crc"]!(library.put(Buffer.alloc(32)), 0) >>> 0, 0x8a9136aa);
});

test("COBS: known encodings", () => {
  const cases: [string, string][] = [
    ["", "01"],
    ["00", "0101"],
    ["0000", "010101"],
    ["11220033", "0311220233"],
    ["11000000", "0211010101"],
  ];
  for (const [raw, encoded] of cases) {
    assert.is(
      library.output(call["encodeCobs"]!(library.put(Buffer.from(raw, "hex")))).toString("hex"),
      encoded,
    );
  }
  const run = Buffer.alloc(254, 7);
  assert.is(
    library.output(call["encodeCobs"]!(library.put(run))).toString("hex"),
    `ff${run.toString("hex")}`,
  );
});

test("COBS: what is encoded has no zero and decodes to itself, also in place", () => {
  const random = randomizer(4);
  for (let n = 0; n < 3000; n++) {
    const zeros = 1 + random(300);
    const raw = Buffer.from(Array.from({ length: random(1200) }, () => random(zeros) && 1 + random(255)));
    const encoded = library.output(call["encodeCobs"]!(library.put(raw)));
    assert.not(encoded.includes(0));
    assert.ok(library.output(call["decodeCobs"]!(library.put(encoded))).equals(raw));
    assert.ok(library.input(call["decodeCobsInPlace"]!(library.put(encoded))).equals(raw));
  }
});

test("COBS: malformed input is refused", () => {
  for (const bad of ["00", "05112233", "0300", "031100"]) {
    assert.is(call["decodeCobs"]!(library.put(Buffer.from(bad, "hex"))), -1, bad);
  }
});

test("UTF-8 is valid exactly when Node's strict decoder takes it", () => {
  const random = randomizer(5);
  const strict = new TextDecoder("utf-8", { fatal: true });
  const pieces = [
    0x41, 0x7f, 0x80, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff,
    0x90, 0x8f,
  ];
  for (let n = 0; n < 30_000; n++) {
    const bytes = Buffer.from(Array.from({ length: 1 + random(6) }, () => pieces[random(pieces.length)]!));
    let expected = true;
    try {
      strict.decode(bytes);
    } catch {
      expected = false;
    }
    assert.is(call["utf8"]!(library.put(bytes)) !== 0, expected, bytes.toString("hex"));
  }
});

test("numbers", () => {
  const text = (length: number): string => library.output(length).toString();
  const big = 0xffffffffffffffffn;
  for (const value of [0n, 9n, 10n, 99n, 100n, 999_999n, 10n ** 19n, 10n ** 19n - 1n, big]) {
    assert.is(text(call["formatUint"]!(value, 0)), value.toString());
    assert.is(text(call["formatHex"]!(value, 1)), `0x${value.toString(16)}`);
  }
  assert.is(text(call["formatUint"]!(7n, 3)), "  7");
  assert.is(text(call["formatHex"]!(7n, 4)), "0x0007");
  assert.is(text(call["formatInt"]!(-(2n ** 63n))), (-(2n ** 63n)).toString());
  assert.is(text(call["formatInt"]!(-5n)), "-5");
  assert.is(text(call["formatSize"]!(128n << 20n)), "128 MiB");
  assert.is(text(call["formatSize"]!(3n << 30n)), "3 GiB");
  assert.is(text(call["formatSize"]!(1536n << 10n)), "1536 KiB");
  assert.is(text(call["formatSize"]!(7n)), "7 B");
  assert.is(text(call["formatSize"]!(0n)), "0 B");
});

test.run();
