// The link: messages and console bytes across ring ends, restarts, and a peer that writes nonsense.

import { test } from "uvu";
import * as assert from "uvu/assert";

import { loadLibrary, randomizer, type Library } from "./load";

const EVENTS = 0x1000;
const CONSOLE_OUT = 0x1080;
const CONSOLE_IN = 0x10c0;
const LOOP = 0x10000;

function open(): Library & {
  head(ring: number, value?: number): number;
  tail(ring: number, value?: number): number;
} {
  const library = loadLibrary();
  const view = new DataView(library.shared.buffer);
  const word = (at: number, value?: number): number => {
    if (value !== undefined) view.setUint32(at, value, true);
    return view.getUint32(at, true);
  };
  library.call["openLink"]!();
  return Object.assign(library, {
    head: (ring: number, value?: number) => word(ring, value),
    tail: (ring: number, value?: number) => word(ring + 4, value),
  });
}

test("messages arrive whole and in order, over many turns of the ring", () => {
  const link = open();
  const random = randomizer(6);
  const waiting: Buffer[] = [];
  for (let n = 0; n < 5000; n++) {
    if (random(2)) {
      const message = Buffer.from(Array.from({ length: 1 + random(900) }, () => random(256)));
      if (link.call["sendEvent"]!(link.put(message))) waiting.push(message);
      else assert.ok(waiting.length > 2);
    } else {
      const length = link.call["receiveEvent"]!(4096);
      const expected = waiting.shift();
      assert.is(length, expected?.length ?? 0);
      if (expected) assert.ok(link.output(length).equals(expected));
    }
    if (random(100) === 0) link.call["openLink"]!();
  }
});

test("an empty message and one that can never fit are refused", () => {
  const link = open();
  assert.is(link.call["sendEvent"]!(0), 0);
  assert.is(link.call["sendEvent"]!(4095), 0);
  assert.is(link.call["sendEvent"]!(4094), 1);
  assert.is(link.call["receiveEvent"]!(4094), 4094);
});

test("a head that cannot be true empties the ring and does no harm", () => {
  const link = open();
  link.call["sendEvent"]!(link.put("one"));
  link.head(EVENTS, 0x80000000);
  assert.is(link.call["receiveEvent"]!(4096), 0);
  assert.is(link.tail(EVENTS), 0x80000000);
});

test("a message length that cannot be true drops what is in the ring", () => {
  const link = open();
  for (const length of [0, 4, 5000, 0xffff]) {
    const start = link.head(EVENTS);
    new DataView(link.shared.buffer).setUint16(0x2000 + (start % 4096), length, true);
    link.head(EVENTS, start + 5);
    assert.is(link.call["receiveEvent"]!(4096), -1, `length ${length}`);
    assert.is(link.call["receiveEvent"]!(4096), 0);
    // Keep the two length bytes from straddling the ring's end, and let both ends start anew.
    link.head(EVENTS, start + 6);
    link.tail(EVENTS, start + 6);
    link.call["openLink"]!();
  }
});

test("a message longer than the reader's room is dropped", () => {
  const link = open();
  link.call["sendEvent"]!(link.put("0123456789"));
  assert.is(link.call["receiveEvent"]!(9), -1);
  assert.is(link.call["receiveEvent"]!(9), 0);
});

test("a tail that cannot be true makes the ring full", () => {
  const link = open();
  link.tail(CONSOLE_IN, 5);
  assert.is(link.call["typeKeys"]!(link.put("x")), 0);
  assert.is(link.call["sendEvent"]!(link.put("x")), 1);
});

test("keys: as many as fit", () => {
  const link = open();
  assert.is(link.call["typeKeys"]!(link.put(Buffer.alloc(5000, 0x61))), 4096);
  assert.is(link.call["typeKeys"]!(link.put("b")), 0);
  assert.is(link.call["takeKeys"]!(16), 16);
  assert.is(link.call["typeKeys"]!(link.put("bcd")), 3);
  assert.is(link.call["takeKeys"]!(5000), 4083);
  assert.is(link.output(4083).toString().slice(-4), "abcd");
  assert.is(link.call["takeKeys"]!(5000), 0);
});

test("console output overwrites the oldest, and its last 63 KiB can be read after restarts", () => {
  const link = open();
  let all = "";
  for (let n = 0; n < 30_000; n++) {
    const line = `line ${n}\n`;
    all += line;
    link.call["print"]!(link.put(line));
  }
  link.call["openLink"]!();
  const read = link.call as unknown as { consoleHead(): bigint; consoleOldest(): bigint };
  const head = read.consoleHead();
  const oldest = read.consoleOldest();
  assert.is(head, BigInt(all.length));
  assert.is(head - oldest, BigInt(LOOP - 1024));
  const count = link.call["readConsole"]!(oldest, LOOP);
  assert.is(count, LOOP - 1024);
  assert.is(link.output(count).toString(), all.slice(-count));
  assert.is(link.call["readConsole"]!(oldest - 1n, 10), 0);
  assert.is(link.call["readConsole"]!(head, 10), 0);
});

test("a print longer than the ring keeps its end", () => {
  const link = open();
  const text = Buffer.from(Array.from({ length: 100_000 }, (_, n) => n % 251));
  link.call["print"]!(link.put(text));
  const oldest = (link.call as unknown as { consoleOldest(): bigint }).consoleOldest();
  assert.is(oldest, BigInt(100_000 - LOOP + 1024));
  assert.ok(link.output(link.call["readConsole"]!(oldest, LOOP)).equals(text.subarray(Number(oldest))));
});

test("console positions go on when the ring's counter wraps", () => {
  const link = open();
  link.head(CONSOLE_OUT, 0xfffffff0);
  link.call["openLink"]!();
  const { consoleHead } = link.call as unknown as { consoleHead(): bigint };
  assert.is(consoleHead(), 0xfffffff0n);
  link.call["print"]!(link.put("0123456789abcdefXYZ"));
  assert.is(consoleHead(), 0x100000003n);
  assert.is(link.call["readConsole"]!(0xfffffffan, 100), 9);
  assert.is(link.output(9).toString(), "abcdefXYZ");
});

test("bytes that the writer overtakes while they are copied are not handed out", () => {
  const link = open();
  link.call["print"]!(link.put("old text"));
  let loads = 0;
  link.onLoad = (offset) => {
    if (offset === CONSOLE_OUT && ++loads === 2) link.head(CONSOLE_OUT, LOOP + 100);
  };
  assert.is(link.call["readConsole"]!(0n, 8), 0);
});

test("the configuration arrives; one that is too long is refused at both ends", () => {
  const link = open();
  assert.is(link.call["configure"]!(link.put("config")), 1);
  assert.is(link.call["configured"]!(), 6);
  assert.is(link.output(6).toString(), "config");
  assert.is(link.call["configure"]!(4093), 0);
  link.head(0, 4093);
  assert.is(link.call["configured"]!(), -1);
});

test.run();
