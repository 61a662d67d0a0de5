// The parts of console scripts: steps, what matches, and what is kept from a terminal.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { QuestionFilter } from "../../control/cli/queries";
import { parseSteps, stepText, Transcript } from "../../control/cli/script";

function transcript(...pieces: string[]): Transcript {
  const out = new Transcript();
  for (const piece of pieces) out.add(Buffer.from(piece));
  return out;
}

test("steps keep their order and name themselves", () => {
  const steps = parseSteps([
    { name: "send", value: "a\\n" },
    { name: "json", value: "" },
    { name: "expect", value: "^b$" },
  ]);
  assert.equal(
    steps.map((step) => step.kind),
    ["send", "expect"],
  );
  assert.is(stepText(steps, 1), "step 2 of 2 (--expect '^b$')");
});

test("a match uses up what is before it, and shows its line from the start", () => {
  const text = transcript("one\r\ntwo thr", "ee four\r\n");
  const found = text.find(/three/m)!;
  assert.equal(found, { line: "two three", end: 13, open: false });
  text.use(found.end);
  assert.is(text.find(/two/m), null);
  assert.ok(text.find(/four$/m));
});

test("a match at the very end may still grow", () => {
  assert.is(transcript("Linux a").find(/^Linux .*/m)!.open, true);
  assert.is(transcript("Linux a\r\n").find(/^Linux .*/m)!.open, false);
});

test("escapes and carriage returns are no text, also when cut in two", () => {
  assert.ok(transcript("\x1b[1mada\x1b[0m# \x1b[6", "n").find(/^ada# $/m));
});

test("UTF-8 that is cut in two is put together", () => {
  const out = new Transcript();
  for (const byte of Buffer.from("größe")) out.add(Uint8Array.of(byte));
  assert.ok(out.find(/^größe$/m));
});

test("a terminal's questions are taken out, colours stay", () => {
  const filter = (...pieces: string[]): string => {
    const questions = new QuestionFilter();
    const out = pieces.map((piece) => Buffer.from(questions.take(Buffer.from(piece, "latin1"))));
    return Buffer.concat([...out, Buffer.from(questions.rest())]).toString("latin1");
  };
  assert.is(filter("ada# \x1b[6n"), "ada# ");
  assert.is(filter("a\x1b[", "6", "nb"), "ab");
  assert.is(filter("a\x1b", "[cb\x1b[0c\x1b[>cd"), "abd");
  assert.is(filter("\x1b[1;31mred\x1b[0m\x1b[2J"), "\x1b[1;31mred\x1b[0m\x1b[2J");
  assert.is(filter("end\x1b"), "end\x1b");
});

test.run();
