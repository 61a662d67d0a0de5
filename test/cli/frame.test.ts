// The Node codec: CRC-32C vectors, COBS, CBOR limits, frames between text, and noise from a fixed seed.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { cborDecode, cborEncode, type Message } from "../../control/protocol/node/cbor";
import { cobsDecode, cobsEncode } from "../../control/protocol/node/cobs";
import { crc32c } from "../../control/protocol/node/crc32c";
import { frameDecode, frameEncode, FrameReader } from "../../control/protocol/node/frame";
import { Random } from "./random";

function hex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replace(/\s/g, ""), "hex"));
}

function collect(): { reader: FrameReader; messages: Message[]; text(): string } {
  const messages: Message[] = [];
  const parts: Uint8Array[] = [];
  const reader = new FrameReader({
    message: (message) => messages.push(message),
    text: (bytes) => parts.push(bytes),
  });
  return { reader, messages, text: () => Buffer.concat(parts).toString("latin1") };
}

test("CRC-32C has the values of RFC 3720", () => {
  assert.is(crc32c(Buffer.from("123456789")), 0xe3069283);
  assert.is(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.is(crc32c(Uint8Array.from({ length: 32 }, (_, n) => n)), 0x46dd794e);
  assert.is(crc32c(new Uint8Array()), 0);
});

test("COBS has the values of its paper", () => {
  const pairs: [string, string][] = [
    ["", "01"],
    ["00", "0101"],
    ["0000", "010101"],
    ["11220033", "0311220233"],
    ["11223344", "0511223344"],
    ["11000000", "0211010101"],
  ];
  for (const [plain, stuffed] of pairs) {
    assert.equal(cobsEncode(hex(plain)), hex(stuffed));
    assert.equal(cobsDecode(hex(stuffed)), hex(plain));
  }
});

test("COBS round trips at every length around its blocks", () => {
  const random = new Random(1);
  for (const length of [1, 253, 254, 255, 256, 507, 508, 509, 510, 1000, 4100]) {
    for (const zeros of [0, 1, 4, 256]) {
      const bytes = random.bytes(length).map((byte) => (random.below(256) < zeros ? 0 : byte || 1));
      const stuffed = cobsEncode(bytes);
      assert.not(stuffed.includes(0));
      assert.equal(cobsDecode(stuffed), bytes);
    }
  }
});

test("COBS refuses what runs past the end", () => {
  for (const bad of ["", "00", "02", "0511", "031100"]) assert.is(cobsDecode(hex(bad)), null);
});

test("CBOR writes plain definite maps and integers, never floats or records", () => {
  assert.equal(Buffer.from(cborEncode({ id: 1 })).toString("hex"), "a162696401");
  assert.equal(Buffer.from(cborEncode({ n: 5_000_000_000 })).toString("hex"), "a1616e1b000000012a05f200");
  assert.equal(
    Buffer.from(cborEncode({ b: Uint8Array.of(1, 2), u: undefined })).toString("hex"),
    "a16162420102",
  );
  assert.throws(() => cborEncode({ n: 1.5 }), /not an integer/);
  assert.throws(() => cborEncode({ d: new Date() as unknown as string }), /plain object/);
});

test("CBOR gives numbers where they are exact and bigint where not", () => {
  assert.equal(cborDecode(hex("a1616e1b000000012a05f200")), { n: 5_000_000_000 });
  assert.equal(cborDecode(hex("a1616e1bffffffffffffffff")), { n: 0xffffffffffffffffn });
  assert.equal(cborDecode(hex("a1616e1b0000000000000005")), { n: 5 });
  assert.equal(cborDecode(cborEncode({ n: -3_000_000_000 })), { n: -3_000_000_000 });
});

test("CBOR refuses what the protocol bans", () => {
  const bad = {
    "no map": "01",
    empty: "",
    truncated: "a16269",
    "trailing byte": "a16269640100",
    "indefinite map": "bf626964ff",
    "indefinite text": "a1617f7f6161ff",
    float: "a1616ef93e00",
    tag: "a16161c101",
    "integer key": "a10102",
    undefined: "a16161f7",
    "array of 4 G": "a161619bffffffffffffffff",
    "nine deep": "a16161" + "81".repeat(8) + "01",
  };
  for (const [what, bytes] of Object.entries(bad)) assert.is(cborDecode(hex(bytes)), null, what);
  assert.ok(cborDecode(hex("a16161" + "81".repeat(7) + "01")));
});

test("a key called __proto__ changes nothing", () => {
  const message = cborDecode(hex("a1695f5f70726f746f5f5f a1 61 78 01"));
  assert.is((message as unknown as { x?: number }).x, undefined);
  assert.is(({} as { x?: number }).x, undefined);
});

test("frames round trip, also cut at every byte", () => {
  const message: Message = {
    id: 0xffffffff,
    op: "create",
    spec: { name: "a", memory: 2 ** 40, data: new Uint8Array(700) },
  };
  const frame = frameEncode(message);
  assert.is(frame[0], 0);
  assert.is(frame[frame.length - 1], 0);
  assert.equal(frameDecode(frame.subarray(1, -1)), message);
  const { reader, messages } = collect();
  for (const byte of frame) reader.feed(Uint8Array.of(byte));
  assert.equal(messages, [message]);
});

test("a message that is too large is refused", () => {
  assert.throws(() => frameEncode({ data: new Uint8Array(4608) }), /allows 4608/);
});

test("text around frames is kept apart", () => {
  const { reader, messages, text } = collect();
  reader.feed(
    Buffer.concat([
      Buffer.from("boot\r\n"),
      frameEncode({ id: 1 }),
      Buffer.from("plinth> "),
      frameEncode({ id: 2 }),
    ]),
  );
  assert.equal(messages, [{ id: 1 }, { id: 2 }]);
  assert.is(text(), "boot\r\nplinth> ");
});

test("a frame with a bad checksum is dropped, counted, and the next one is read", () => {
  const bad = frameEncode({ id: 1 });
  bad[3] = bad[3]! ^ 1;
  const { reader, messages } = collect();
  reader.feed(Buffer.concat([bad, frameEncode({ id: 2 })]));
  assert.equal(messages, [{ id: 2 }]);
  assert.is(reader.badFrames, 1);
});

test("a stray zero, half a frame and text do not swallow the frame behind them", () => {
  const half = frameEncode({ id: 1, text: "x".repeat(100) }).subarray(0, 50);
  for (const before of [Uint8Array.of(0), Uint8Array.of(0, 0), half, Buffer.from("\0login: ")]) {
    const { reader, messages } = collect();
    reader.feed(Buffer.concat([before, frameEncode({ id: 7 }), frameEncode({ id: 8 })]));
    assert.equal(messages, [{ id: 7 }, { id: 8 }]);
  }
});

test("a frame without an end is given up, its bytes become text", () => {
  const { reader, messages, text } = collect();
  reader.feed(Buffer.concat([Uint8Array.of(0), Buffer.alloc(4201, "x")]));
  reader.feed(frameEncode({ id: 3 }));
  assert.equal(messages, [{ id: 3 }]);
  assert.is(text().length, 4201);
  reader.feed(Buffer.from("\0kernel panic"));
  reader.flush();
  assert.ok(text().endsWith("kernel panic"));
});

test("no noise breaks the reader, and frames in it are found", () => {
  const random = new Random(42);
  const { reader, messages } = collect();
  let sent = 0;
  for (let round = 0; round < 5000; round++) {
    const noise = random.bytes(random.below(40));
    reader.feed(noise);
    if (random.below(2) === 0) continue;
    // Two zeros: whatever state the noise left, the frame behind them is seen.
    reader.feed(Uint8Array.of(0, 0));
    const frame = frameEncode({ id: round, data: random.bytes(random.below(300)) });
    const cut = random.below(frame.length);
    reader.feed(frame.subarray(0, cut));
    reader.feed(frame.subarray(cut));
    sent++;
  }
  assert.is(messages.length, sent);
});

test("no damaged payload decodes to anything but a message or null", () => {
  const random = new Random(7);
  const good = cborEncode({
    id: 5,
    ok: true,
    result: { vms: [{ name: "a", memory: 5_000_000_000, data: new Uint8Array(9) }] },
  });
  for (let round = 0; round < 20_000; round++) {
    const bytes = new Uint8Array(good);
    for (let n = random.below(4); n >= 0; n--) bytes[random.below(bytes.length)] = random.below(256);
    const message = cborDecode(random.below(5) === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes);
    assert.ok(message === null || typeof message === "object");
  }
});

test.run();
