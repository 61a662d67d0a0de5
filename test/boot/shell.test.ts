// A person's session at the serial line, from power-on: banner, help, completion, lists, a console, mistakes.
// rigs: AMD-V, VT-x (long)

import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Rig, startRig } from "../../boot/rigs/rig";
import { DEMO_ISO, runDir } from "./host";
import { Terminal } from "./terminal";

const BOOT_MS = 170_000;

const test = suite<{ rig: Rig; terminal: Terminal }>("shell");

test.before(async (context) => {
  context.rig = await startRig({ iso: DEMO_ISO, runDir: runDir("shell") });
  context.terminal = await Terminal.open(context.rig.socketPath);
});
test.after(async (context) => context.rig?.stop());

test("the boot says what it found and ends in a prompt", async ({ terminal }) => {
  const text = await terminal.expect(/^plinth> /m, BOOT_MS);
  assert.match(text, /^plinth control \d+\.\d+\.\d+ \(.+\)$/m);
  assert.match(text, /^host "demo": 2 VMs, 2 starting$/m);
  assert.match(text, /^Type "help" for the commands\.$/m);
});

test("VMs that come up by themselves are told of", async ({ terminal }) => {
  await terminal.expect(/\[(ada|bob): running\]/, BOOT_MS);
  await terminal.expect(/\[(ada|bob): running\]/, BOOT_MS);
  await terminal.expect(/plinth> /);
});

test("help, ls, show, status", async ({ terminal }) => {
  const help = await terminal.command("help");
  for (const name of ["status", "ls", "show", "console", "create", "help"])
    assert.match(help, new RegExp(`^${name} +\\S`, "m"));
  assert.match(await terminal.command("help stop"), /^usage: stop VM \[--force\]$/m);
  const list = await terminal.command("ls");
  assert.match(list, /^NAME +STATE +MEMORY/m);
  assert.match(list, /^ada +running +128 MiB +1 /m);
  assert.match(list, /^bob +running +96 MiB +1 /m);
  assert.match(await terminal.command("show bob"), /^cmdline +.*plinth\.role=second$/m);
  assert.match(await terminal.command("status"), /^VMs +2, 2 up$/m);
});

test("what is longer than the terminal comes page by page", async ({ terminal }) => {
  terminal.rows = 24;
  terminal.type("help\r");
  await terminal.expect(/--more--.*enough $/);
  terminal.type(" ");
  await terminal.expect(/^plinth> /m);
  terminal.rows = 500;
});

test("Tab completes commands and names", async ({ terminal }) => {
  terminal.type("sho\tad\t\r");
  const text = await terminal.expect(/^plinth> /m);
  assert.match(text, /^show ada/);
  assert.match(text, /^cmdline +.*plinth\.name=ada$/m);
});

test("mistakes are answered with what to do", async ({ terminal }) => {
  assert.match(
    await terminal.command("strat ada"),
    'there is no command "strat"\nnext:  did you mean start?',
  );
  assert.match(await terminal.command("show adda"), 'there is no VM "adda", did you mean "ada"?');
  assert.match(await terminal.command("rm ada"), /"ada" is running.*\nnext: {2}stop ada/);
});

test("what the machine is, as its firmware and its devices say", async ({ terminal }) => {
  const machine = await terminal.command("hardware");
  assert.match(machine, /^firmware +BIOS, ACPI tables of BOCHS /m); /* so says QEMU's firmware too */
  assert.match(machine, /^tables .*\bAPIC\b/m);
  assert.match(machine, /^CPUs +1 of 1 run$/m);
  assert.match(machine, /^PCI 00:00\.0 +8086:[0-9a-f]{4} +0600 +host bridge$/m);
  assert.match(machine, /^PCI 00:01\.0 /m);
  assert.not.match(machine, /^problems/m);
});

test("a console: banner, scroll-back, typing, and ~. to leave", async ({ terminal }) => {
  terminal.type("console ada\r");
  await terminal.expect(/^Console of VM "ada"\. To leave: ~\. after Enter, or Ctrl-\]\./m);
  await terminal.expect(/plinth-guest: ada is up\n/, BOOT_MS);
  await terminal.expect(/^ada# /m);
  terminal.type("echo six times seven is $((6 * 7))\r");
  await terminal.expect(/^six times seven is 42\n/m);
  await terminal.expect(/^ada# /m);
  // The guest's shell asks for the cursor at each prompt; a terminal answers between Enter and what is typed next.
  terminal.type("\r\x1b[24;80R~.");
  await terminal.expect(/^\[left the console of VM "ada"\]\nplinth> /m);
});

test("a console entered again shows what was before; Ctrl-] leaves it in mid-line", async ({ terminal }) => {
  terminal.type("console ada\r");
  await terminal.expect(/plinth-guest: ada is up\n(.*\n)*six times seven is 42\n(.*\n)*ada# /);
  terminal.type("half a li\x1d");
  await terminal.expect(/^\[left the console of VM "ada"\]\nplinth> /m);
  terminal.type("console bob\r");
  await terminal.expect(/plinth-guest: bob is up\n(.*\n)*bob# /, BOOT_MS);
  terminal.type("\x1d");
  await terminal.expect(/^\[left the console of VM "bob"\]\nplinth> /m);
});

test("pause, resume, stop, create, rm", async ({ terminal }) => {
  assert.match(await terminal.command("pause bob"), /"bob" is paused/);
  assert.match(await terminal.command("resume bob"), /"bob" is running/);
  assert.match(await terminal.command("stop bob --force"), /"bob" is stopped/);
  assert.match(await terminal.command("rm bob"), /"bob" is removed/);
  assert.not.match(await terminal.command("ls"), /bob/);
  const spec = 'tim memory=80M kernel=linux initrd=initrd cmdline="console=ttyS0 quiet" start=no';
  assert.match(await terminal.command(`create ${spec}`), /"tim" is stopped/);
  assert.match(await terminal.command("rm tim"), /"tim" is removed/);
});

/** The README's walk in the shell: each line that is typed, and what it says. */
function walk(): { typed: string; said: string }[] {
  const [, block] = /^```\n(plinth> [^]*?)^```$/m.exec(readFileSync("README.md", "utf8"))!;
  return block!
    .split(/^plinth> /m)
    .slice(1)
    .map((part) => {
      const [typed, ...said] = part.split("\n");
      return { typed: typed!, said: said.join("\n") };
    });
}

/** Numbers and widths are of the machine. */
function alike(text: string): string {
  return text
    .replace(/[\d.,]+/g, "0")
    .replace(/ +/g, " ")
    .trim();
}

test("the README's walk to a second tenant, as it stands there", async ({ terminal }) => {
  const steps = walk();
  assert.ok(steps.length > 8);
  for (const { typed, said } of steps) {
    if (typed.startsWith("console ") || typed.startsWith("top")) {
      terminal.type(`${typed}\r`);
      const first = said.split("\n")[0]!;
      await terminal.expect(typed.startsWith("top") ? /^TENANT.*\n(.*\n)*lab .*\n/m : /^Console of VM .*\n/m);
      assert.ok(first !== "" || typed.startsWith("top"));
      terminal.type(typed.startsWith("top") ? "q" : "\x1d");
      await terminal.expect(/^plinth> /m);
      continue;
    }
    let answer = await terminal.command(typed);
    if (/^\[.*: running\]$/m.test(said)) {
      answer += await terminal.expect(/^(plinth> )?\[.*: running\]\n/m, BOOT_MS);
      await terminal.expect(/plinth> /);
    }
    assert.is(alike(answer.replace("plinth> ", "")), alike(said), typed);
  }
});

test("end of input and an interrupted line leave the shell alone", async ({ terminal }) => {
  terminal.type("\x04");
  await terminal.expect(/there is nothing to leave.*\nplinth> /);
  terminal.type("rubbish\x03");
  await terminal.expect(/\^C\nplinth> /);
  assert.match(await terminal.command("version"), /^plinth control /m);
});

test.run();
