// A person at the serial line.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";

/** What a terminal of one long line shows after these bytes: the text before and after the cursor. */
function screenLine(bytes: string): string {
  const cells: string[] = [];
  let at = 0;
  for (const c of bytes.slice(bytes.lastIndexOf("\n") + 1)) {
    if (c === "\b") at--;
    else if (c === "\r") at = 0;
    else if (c >= " ") cells[at++] = c;
  }
  return cells.join("").trimEnd();
}

test("status, ls and show", () => {
  const rig = new Rig();
  const status = rig.command("status");
  assert.match(status, /^host +test, up /m);
  assert.match(status, /^VMs +2, 2 up$/m);
  const list = rig.command("ls").split("\n");
  assert.match(list[0]!, /^NAME +STATE +MEMORY +VCPUS +FOR +REASON$/);
  assert.match(list[1]!, /^a +running +64 MiB +1 +\d+ ms +booted$/);
  assert.match(list[2]!, /^b +running +96 MiB /);
  const show = rig.command("show a");
  assert.match(show, /^cmdline +name=a$/m);
  assert.match(show, /^beside it +\d+ KiB device model, \d+ KiB kernel$/m);
  for (const out of [status, rig.command("ls"), show, rig.command("help"), rig.command("images")]) {
    for (const line of out.split("\n")) assert.ok(line.length <= 80, line);
  }
});

test("unknown commands and VMs name the next thing to type", () => {
  const rig = new Rig();
  assert.is(
    rig.command("strat"),
    'error: there is no command "strat"\nnext:  did you mean start? help lists all commands\n',
  );
  assert.is(rig.command("xyzzy"), 'error: there is no command "xyzzy"\nnext:  help\n');
  assert.match(rig.command("exit"), "leaves plinth shell");
  assert.match(rig.command("help strat"), 'error: there is no command "strat"\nnext:  did you mean start?');
  assert.is(rig.command("show q"), 'error: there is no VM "q", did you mean "a"?\nnext:  ls\n');
  assert.match(rig.command("show"), /^error: show: it needs a VM; usage: show VM\nnext: {2}help show\n$/);
  assert.match(rig.command("ls x"), /^error: ls: "x" is too much/);
  assert.match(rig.command("pause a --force"), /^error: pause: it has no option "--force"/);
  assert.match(
    rig.command("rm a"),
    /^error: VM "a" is running, it must be stopped or crashed\nnext: {2}stop a\n$/,
  );
  assert.is(rig.command(""), "");
  assert.match(rig.command("?"), /^status +the host/);
});

test("help of each command gives its usage", () => {
  const rig = new Rig();
  const names = rig
    .command("help")
    .split("\n")
    .map((line) => line.split(" ")[0]!)
    .slice(0, -2);
  assert.ok(names.length > 15);
  for (const name of names) assert.match(rig.command(`help ${name}`), new RegExp(`^usage: ${name}`));
});

test("editing: arrows, home, end, deletions", () => {
  const rig = new Rig();
  const edit = (keys: string, expected: string): void => {
    rig.text();
    assert.is(screenLine("plinth> " + rig.type(keys)), `plinth> ${expected}`.trimEnd());
    rig.type("\x03");
  };
  edit("lx\x7fs", "ls");
  edit("s\x1b[Dl\x1b[C -", "ls -");
  edit("bc\x01a\x05d", "abcd");
  edit("abcd\x1b[H\x1b[3~", "bcd");
  edit("abcd\x1bOH\x1b[3~\x1b[Fx", "bcdx");
  edit("one two  \x17x", "one x");
  edit("one two\x02\x02\x02\x0b", "one");
  edit("one two\x1b[D\x1b[D\x1b[D\x15", "two");
  edit("a\x1b[99;5~b\x1b\x1bc", "ab");
});

test("history goes up and down and keeps the draft", () => {
  const rig = new Rig();
  rig.command("version");
  rig.command("free");
  const out = rig.type("dra\x1b[A\x1b[A");
  assert.is(screenLine("plinth> " + out), "plinth> version");
  assert.is(screenLine("plinth> version" + rig.type("\x1b[B\x1b[B")), "plinth> dra");
});

test("completion of commands, VMs, options, images and keys", () => {
  const rig = new Rig();
  const completes = (typed: string, added: string): void => {
    rig.type("\x03");
    rig.text();
    assert.is(rig.type(`${typed}\t`), typed + added);
  };
  completes("sh", "ow ");
  completes("show ", "\r\na                  b                  \r\nplinth> show ");
  completes("st", "\r\nstatus             start              stop               \r\nplinth> st");
  completes("stop a --", "force ");
  completes(
    "help res",
    "\r\nresume             reset              \r\nplinth> help res".replace("\r\nresume", "\r\nresume"),
  );
  completes("create x mem", "ory=");
  completes("create x kernel=li", "nux ");
  completes("nothing", "\x07");
});

test("create, with a command line in quotes, then rm", () => {
  const rig = new Rig();
  assert.is(
    rig.command('create c memory=32M kernel=linux cmdline="quiet splash"').split("\n")[0],
    'VM "c" is starting: loading',
  );
  assert.match(rig.command("logs c"), /model up: quiet splash/);
  assert.match(rig.command("show c"), /^cmdline +quiet splash$/m);
  assert.match(rig.command("stop c --force"), /VM "c" is stopped: stopped by force/);
  assert.match(rig.command("rm c"), /VM "c" is removed/);
  assert.match(rig.command("create d mem=1"), /did you mean "memory="\?/);
  assert.match(
    rig.command("create d memory=1G kernel=linux"),
    /^error: VM "d": needs 1,02\d MiB, \d+ MiB are free\nnext: {2}free\n$/,
  );
  assert.match(
    rig.command("create d memory=12 kernel=linux"),
    /error: VM "d": memory is 12, it must be 2,097,152 to 274,877,906,944/,
  );
});

test("a console: banner, what was printed before, both ways out, help, a literal tilde", () => {
  const rig = new Rig();
  const first = rig.command("console a");
  assert.match(first, /^Console of VM "a"\. To leave: ~\. after Enter, or Ctrl-\]\. ~\? for help\.\n/);
  assert.match(first, /model up: name=a/);
  assert.match(rig.type("hi\r"), /hi\r\nyou said: hi\r\n/);
  assert.match(rig.type("x~.\r"), /you said: x~\./);
  assert.match(rig.type("~~\r"), /you said: ~\r/);
  assert.match(rig.type("~q\r"), /you said: ~q/);
  assert.match(rig.type("~?"), /~\. {2}leave/);
  assert.match(rig.type("\r~."), /\[left the console of VM "a"\]\r\nplinth> $/);
  rig.command("console a");
  rig.type("\r\x1b[24;80R"); // what a terminal answers to a shell that asks for the cursor
  assert.match(rig.type("~."), /left the console/);
  rig.command("console b");
  assert.match(rig.type("\x1d"), /\[left the console of VM "b"\]/);
  assert.match(rig.command("console b"), /model up: name=b/);
});

test("a VM that prints without end neither floods the console nor stops the shell", () => {
  const rig = new Rig();
  rig.command("console a");
  const out = rig.type("flood\r");
  assert.match(out, /\[\.\.\. \d+ bytes skipped \.\.\.\]/);
  assert.match(out, /line 4999 of a flood/);
  assert.ok(out.length < 70_000);
  assert.match(rig.type("\x1d"), /left the console/);
  assert.match(rig.command("ls"), /^a +running/m);
});

test("a console of a VM that ends says so and can be left", () => {
  const rig = new Rig();
  rig.command("console a");
  assert.match(rig.type("off\r"), /\[VM "a" is stopped: powered off; ~\. leaves\]/);
  assert.match(rig.type("x"), /\x07/);
  assert.match(rig.type("\x1d"), /left the console/);
  assert.match(rig.command("logs a"), /model up: name=a/);
});

test("end of input does not end the shell; Ctrl-C drops the line", () => {
  const rig = new Rig();
  rig.text();
  assert.match(rig.type("\x04"), /there is nothing to leave/);
  assert.match(rig.type("rubbish\x03"), /\^C\r\nplinth> $/);
  assert.match(rig.command("version"), /^plinth control/);
});

test("input whose interrupt was lost is seen soon; lost input is counted", () => {
  const rig = new Rig();
  const { serial } = rig.kernel;
  const raise = serial.onInterrupt;
  rig.text();
  serial.onInterrupt = () => undefined;
  serial.write("version\r");
  rig.kernel.advance(300);
  assert.match(rig.text(), /plinth control/);
  serial.onInterrupt = raise;
  assert.not.match(rig.command("status"), /overrun/);
  serial.overrun = true;
  assert.match(rig.command("status"), /^line +1 overrun/m);
});

test("bytes of all values typed at the shell do not trap it", () => {
  const rig = new Rig();
  let seed = 7;
  for (let round = 0; round < 40; round++) {
    const bytes = new Uint8Array(300).map(() => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 10) & 0xff;
    });
    rig.type(bytes);
    rig.kernel.advance(3000);
  }
  assert.equal(rig.kernel.traps, []);
  rig.type("\x1d\x03");
  assert.match(rig.command("version"), /plinth control/);
});

test.run();
