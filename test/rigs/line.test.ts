// The shared line: clients' text and frames may mix, but no frame is ever cut by another client's bytes.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { InputSplitter } from "../../boot/rigs/line";

/** Feeds chunks (latin1) to a splitter; returns the pieces that it sent. */
function split(chunks: string[], close = false): string[] {
  const pieces: string[] = [];
  const splitter = new InputSplitter((piece) => pieces.push(piece.toString("latin1")));
  for (const chunk of chunks) splitter.push(Buffer.from(chunk, "latin1"));
  if (close) splitter.close();
  return pieces;
}

test("text passes as it comes", () => {
  assert.equal(split(["l", "s\r"]), ["l", "s\r"]);
});

test("a frame is sent in one piece however it arrives", () => {
  assert.equal(split(["\0", "abc", "d\0"]), ["\0abcd\0"]);
});

test("text and frames in one chunk stay in order", () => {
  assert.equal(split(["ls\r\0abc\0\0def\0x"]), ["ls\r", "\0abc\0", "\0def\0", "x"]);
});

test("an empty frame is a frame", () => {
  assert.equal(split(["\0\0"]), ["\0\0"]);
});

test("an unfinished frame waits, and is ended when its client goes", () => {
  assert.equal(split(["\0abc"]), []);
  assert.equal(split(["\0abc"], true), ["\0abc\0"]);
});

test("a frame without end is passed on once the host has given it up", () => {
  const pieces = split(["\0" + "x".repeat(5000), "tail"]);
  assert.is(pieces.join(""), "\0" + "x".repeat(5000) + "tail");
});

test("no byte is lost, whatever the chunks", () => {
  const whole = "a\0bc\0d\0\0ef\0ghi\0";
  for (let cut = 0; cut <= whole.length; cut++) {
    const pieces = split([whole.slice(0, cut), whole.slice(cut)]);
    assert.is(pieces.join(""), whole);
    assert.ok(
      pieces
        .filter((piece) => piece.startsWith("\0"))
        .every((piece) => piece.length > 1 && piece.endsWith("\0")),
    );
  }
});

test.run();
