// The shell's output on terminals of all kinds: the pager, the question for the terminal's size, events as they come.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import { hostSpec, MIB, Rig, SIZE_QUESTION, vmSpec } from "./rig";

const MORE = /--more-- {2}space: a page, Enter: a line, q: enough $/;

/** A host whose `ls` has this many lines. */
function rigWith(vms: number, rows: number): Rig {
  const list = Array.from({ length: vms }, (_, n) => vmSpec(`vm${n}`, { memory: 8 * MIB, start: false }));
  const rig = new Rig({ spec: hostSpec(list) });
  rig.terminal = { rows, columns: 80 };
  return rig;
}

/** Lines of what came, without the pager's words. */
function lines(text: string): string[] {
  return text
    .replace(/\r\x1b\[K/g, "")
    .replace(/--more--.*$/, "")
    .split(/\r?\n/)
    .filter((line) => line !== "");
}

test("output longer than the terminal is paged: space, Enter, q", () => {
  const rig = rigWith(30, 24);
  const first = rig.command("help");
  assert.match(first, MORE);
  assert.is(lines(first).length, 23);
  const line = rig.type("\r");
  assert.is(lines(line).length, 1);
  assert.match(line, MORE);
  assert.match(rig.type("x"), /^\x07$/);
  const rest = rig.type(" ");
  assert.match(rest, /Tab completes, .*\r\nplinth> $/);
  const list = rig.command("ls");
  assert.is(lines(list).length, 23);
  const quit = rig.type("q");
  assert.is(quit, "\r\x1b[Kplinth> ");
  assert.match(rig.command("version"), /^plinth control/);
});

test("a page that ends with the output, and one that is short, need no key", () => {
  const fits = rigWith(22, 24); // with its heading 23 lines, and a prompt
  assert.is(lines(fits.command("ls")).length, 23);
  assert.match(fits.command("version"), /^plinth control/);
  const high = rigWith(30, 100);
  assert.not.match(high.command("ls"), /more/);
});

test("a terminal that is lower than it was thought to be", () => {
  const rig = rigWith(30, 12);
  assert.match(rig.command("ls"), MORE); // asked only after what every terminal shows
  rig.type("q");
  const known = rig.command("ls");
  assert.is(lines(known).length, 11);
  assert.match(known, MORE);
  rig.type("q");
  rig.terminal = { rows: 40, columns: 80 }; // it was made larger meanwhile
  assert.not.match(rig.command("ls"), /more/);
});

test("lines that wrap count as what they take", () => {
  const rig = rigWith(30, 24);
  rig.terminal = { rows: 24, columns: 20 };
  rig.command("help");
  rig.type("q");
  assert.ok(lines(rig.command("help")).length < 15);
});

test("what does not answer gets everything, after half a second once, and is not asked again until it shows life", () => {
  const rig = rigWith(30, 24);
  rig.terminal = undefined;
  rig.kernel.serial.write("ls\r");
  rig.settle();
  const begun = rig.text();
  assert.ok(begun.endsWith(SIZE_QUESTION));
  rig.kernel.serial.write("version\r");
  rig.settle();
  assert.is(rig.text(), "", "waits with what was typed meanwhile");
  assert.match(rig.wait(500), /vm29.*\r\nplinth> version\r\nplinth control/s);
  const out = rig.command("ls");
  assert.is(lines(out).length, 31);
  rig.terminal = { rows: 24, columns: 80 };
  rig.type("\x1b[A\x03");
  assert.match(rig.command("ls"), MORE);
});

test("answers in pieces, late ones, and others that begin like one", () => {
  const rig = rigWith(30, 24);
  rig.terminal = undefined;
  const ask = (): void => {
    rig.kernel.serial.write("ls\r");
    rig.settle();
    assert.ok(rig.text().endsWith(SIZE_QUESTION));
  };
  ask();
  for (const piece of ["x\x1b", "[1", "2;8", "0"]) {
    rig.kernel.serial.write(piece);
    rig.settle();
    assert.is(rig.text(), "");
  }
  rig.kernel.serial.write("R");
  rig.settle();
  assert.match(rig.text(), MORE);
  assert.match(rig.type("q"), /plinth> x$/, "what was typed meanwhile is no key of the pager");
  rig.type("\x03");
  ask();
  rig.kernel.serial.write("\x1b[\x1b[Aq");
  assert.match(rig.wait(600), /plinth> .*q$/s, "an arrow and a key, typed meanwhile");
  rig.type("\x03\x1b[999;999R"); // too late: it says nothing any more
  assert.is(rig.type("\x03").slice(-8), "plinth> ");
  rig.type("\x1b[3");
  assert.equal(rig.kernel.traps, []);
});

test("a log is paged as it comes, and can be left", () => {
  const rig = new Rig();
  rig.terminal = { rows: 24, columns: 80 };
  rig.command("console a");
  rig.type("flood\r");
  rig.type("\x1d");
  const first = rig.command("logs a");
  assert.match(first, MORE);
  assert.ok(lines(first).length <= 24);
  assert.is(rig.type("q"), "\r\x1b[Kplinth> ");
});

test("frames are answered while the pager holds", () => {
  const rig = rigWith(30, 24);
  rig.command("ls");
  assert.is((rig.ok("ls")["vms"] as unknown[]).length, 30);
  rig.kernel.serial.write(frameEncode({ id: 77, op: "status" }));
  rig.settle();
  rig.replyTo(77);
  assert.match(rig.type("q"), /plinth> $/);
});

test("events: how many, from where on, and as they come", () => {
  const rig = new Rig();
  const all = rig.command("events");
  assert.match(all, /^ +1 +\d+\.\d{3} {2}control-started/);
  const last = Number(/(\d+) +\S+ +\S+ +b: running\n$/.exec(all)![1]);
  assert.is(rig.command("events 2").split("\n").length, 3);
  assert.match(rig.command(`events --since ${last - 1}`), new RegExp(`^ +${last} .*b: running\n$`));
  assert.is(rig.command(`events --since=${last}`), "");
  assert.match(rig.command("events x"), /"x" is no number/);
  assert.match(rig.command("events --sinc 3"), /it has no option "--sinc"/);
  assert.match(rig.command("events --follow --since 1"), /\(any key ends it\)\n$/);
  rig.ok("pause", { vm: "a" });
  assert.match(rig.text(), new RegExp(`^ +${last + 1} .*vm-paused +a: paused\r\n$`));
  assert.is(rig.type("q"), "plinth> ");
  rig.ok("resume", { vm: "a" });
  assert.is(rig.text(), "");
});

test.run();
