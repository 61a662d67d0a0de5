// CBOR of components against cbor-x: the same messages both ways, refusals, and fuzzing.

import { Decoder } from "cbor-x/decode";
import { Encoder } from "cbor-x/encode";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { loadLibrary, randomizer } from "./load";

const library = loadLibrary();
const { call } = library;
const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });
const decoder = new Decoder({ useRecords: false, mapsAsObjects: true });
const AREA = 0x20000;

const hex = (text: string): Buffer => Buffer.from(text.replace(/ /g, ""), "hex");

function valid(bytes: Uint8Array): boolean {
  return call["valid"]!(library.put(bytes)) !== 0;
}

/** What the component's reader and writer make of an encoded item. */
function transcode(bytes: Uint8Array, capacity = AREA): Buffer | undefined {
  const length = call["transcode"]!(library.put(bytes), capacity);
  return length < 0 ? undefined : library.output(length);
}

function plain(value: unknown): unknown {
  if (typeof value === "number") return Number.isInteger(value) ? BigInt(value) : value;
  if (value instanceof Uint8Array) return [...value].map(BigInt);
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  }
  return value;
}

function randomValue(random: (below: number) => number, depth: number): unknown {
  switch (random(depth > 0 ? 9 : 7)) {
    case 0:
      return random(2) ? random(30) : random(0xffffffff);
    case 1:
      return (BigInt(random(0xffffffff)) << 32n) | BigInt(random(0xffffffff));
    case 2:
      return -1 - random(0x7fffffff);
    case 3:
      return random(2) === 1;
    case 4:
      return null;
    case 5:
      return Array.from({ length: random(40) }, () => ["a", "é", "€", "😀", "\0", " "][random(6)]).join("");
    case 6:
      return Buffer.from(Array.from({ length: random(300) }, () => random(256)));
    case 7:
      return Array.from({ length: random(30) }, () => randomValue(random, depth - 1));
    default:
      return Object.fromEntries(
        Array.from({ length: random(30) }, (_, n) => [`k${n}`, randomValue(random, depth - 1)]),
      );
  }
}

test("2000 random messages of cbor-x are valid and come back the same", () => {
  const random = randomizer(1);
  for (let n = 0; n < 2000; n++) {
    const value = randomValue(random, 3);
    const bytes = encoder.encode(value);
    if (bytes.length > AREA / 2) continue;
    assert.ok(valid(bytes), bytes.toString("hex"));
    const back = transcode(bytes);
    assert.ok(back, bytes.toString("hex"));
    assert.equal(plain(decoder.decode(back)), plain(value));
  }
});

test("damaged messages never trap, and what is valid can be read", () => {
  const random = randomizer(2);
  let accepted = 0;
  for (let n = 0; n < 20_000; n++) {
    const bytes = Buffer.from(encoder.encode(randomValue(random, 2))).subarray(0, 2000);
    for (let i = random(4); i >= 0; i--) bytes[random(bytes.length)] = random(256);
    const cut = bytes.subarray(0, random(8) ? bytes.length : random(bytes.length + 1));
    const isValid = valid(cut);
    const back = transcode(cut);
    call["find"]!(library.put(cut));
    // A negative integer below -2^63 is valid but no i64, the only difference between the two.
    if (isValid) accepted++;
    if (isValid && !back) assert.match(cut.toString("hex"), /3b[89a-f]/);
  }
  assert.ok(accepted > 1000 && accepted < 19_000, `${accepted} accepted`);
});

test("random bytes never trap", () => {
  const random = randomizer(3);
  for (let n = 0; n < 50_000; n++) {
    const bytes = Buffer.from(Array.from({ length: random(60) }, () => random(256)));
    valid(bytes);
    transcode(bytes);
  }
});

const refused: [string, string][] = [
  ["nothing", ""],
  ["a second item", "00 00"],
  ["head cut", "19 01"],
  ["text cut", "63 61 62"],
  ["length of 2^64 - 1", "5b ffffffffffffffff"],
  ["array longer than the message", "9b 0000000100000000 00"],
  ["map longer than the message", "bb 8000000000000000 00"],
  ["indefinite text", "7f 61 61 ff"],
  ["indefinite array", "9f 00 ff"],
  ["indefinite map", "bf ff"],
  ["reserved head", "1c"],
  ["break", "ff"],
  ["tag", "c0 00"],
  ["half float", "f9 3c00"],
  ["float", "fa 3f800000"],
  ["double", "fb 3ff0000000000000"],
  ["undefined", "f7"],
  ["simple value", "e0"],
  ["simple value in two bytes", "f8 15"],
  ["nine levels", "81 81 81 81 81 81 81 81 81 00"],
  ["key twice", "a2 61 61 00 61 61 01"],
  ["key twice, one with a long head", "a2 61 61 00 78 01 61 01"],
  ["number key twice", "a2 05 00 18 05 01"],
  ["key twice behind nested values", "a3 61 61 82 00 01 61 62 a1 61 61 00 61 61 00"],
  ["array as key", "a1 80 00"],
  ["simple value as key", "a1 f5 00"],
  ["bad UTF-8", "61 80"],
  ["overlong UTF-8", "62 c080"],
  ["surrogate", "63 eda080"],
  ["beyond U+10FFFF", "64 f4908080"],
];
for (const [name, bytes] of refused) {
  test(`refused: ${name}`, () => assert.not(valid(hex(bytes))));
}

const accepted: [string, string][] = [
  ["non-minimal integer", "1b 0000000000000005"],
  ["non-minimal length", "59 0001 61"],
  ["eight levels", "81 81 81 81 81 81 81 81 00"],
  ["the same key in two maps", "82 a1 61 61 00 a1 61 61 00"],
  ["text and bytes as different keys", "a2 61 61 00 41 61 00"],
  ["U+10FFFF", "64 f48fbfbf"],
];
for (const [name, bytes] of accepted) {
  test(`accepted: ${name}`, () => assert.ok(valid(hex(bytes))));
}

test("find() goes to the value of a key and leaves the reader alone otherwise", () => {
  const bytes = encoder.encode({ a: [1, { needle: 2 }], needle: 7, b: "needle" });
  const at = call["find"]!(library.put(bytes));
  assert.is(bytes[at], 7);
  assert.is(call["find"]!(library.put(encoder.encode({ needles: 1, b: "needle" }))), -1);
  assert.is(call["find"]!(library.put(encoder.encode([1]))), -2);
});

test("a writer stops at its capacity", () => {
  const bytes = encoder.encode({ text: "0123456789", data: Buffer.alloc(30) });
  const full = transcode(bytes)!.length;
  for (let capacity = 0; capacity < full; capacity++) assert.not(transcode(bytes, capacity), `${capacity}`);
  assert.ok(transcode(bytes, full));
});

test.run();
