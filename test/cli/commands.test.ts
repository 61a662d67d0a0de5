// Each command against a host that speaks the protocol: what it prints, its JSON, its exit code.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FakeHost } from "./fake-host";
import { runCli, startCli, until } from "./run-cli";

const test = suite<{ host: FakeHost }>("commands");

test.before.each(async (context) => {
  context.host = await FakeHost.start();
});
test.after.each(async (context) => context.host.stop());

test("status", async ({ host }) => {
  host.add("a");
  const people = await runCli(host, ["status"]);
  assert.is(people.code, 0, people.stderr);
  assert.match(people.stdout, /memory +4\.56 GiB free of 4\.66 GiB/);
  assert.match(people.stdout, /vms +1 running of 1/);
  const json = JSON.parse((await runCli(host, ["status", "--json"])).stdout);
  assert.is(json.memory.free, 4_900_000_000);
});

test("free", async ({ host }) => {
  assert.match((await runCli(host, ["free"])).stdout, /free +4\.56 GiB +4900000000/);
  assert.is(JSON.parse((await runCli(host, ["free", "--json"])).stdout).free, 4_900_000_000);
});

test("ls", async ({ host }) => {
  const empty = await runCli(host, ["ls"]);
  assert.is(empty.stdout, "");
  assert.match(empty.stderr, /no VMs/);
  assert.equal(JSON.parse((await runCli(host, ["ls", "--json"])).stdout), { vms: [] });
  host.add("a");
  host.add("bee", "crashed").reason = "triple fault\nat \x1b[31m0";
  const { stdout } = await runCli(host, ["ls"]);
  const lines = stdout.trimEnd().split("\n");
  assert.match(lines[0]!, /^NAME +STATE +SINCE +MEMORY +VCPUS +REASON$/);
  assert.match(lines[1]!, /^a +running +1\.5 s +128 MiB +1$/);
  assert.match(lines[2]!, /^bee +crashed .* triple fault at 0$/);
});

test("show, with counters that do not fit a number", async ({ host }) => {
  host.add("a");
  assert.match((await runCli(host, ["show", "a"])).stdout, /1152921504606846976 +cpuid\n +7 +hlt/);
  const json = JSON.parse((await runCli(host, ["show", "a", "--json"])).stdout);
  assert.equal(json.counters, { hlt: 7, cpuid: "1152921504606846976" });
});

test("exit codes are those of the host, and its words are passed on", async ({ host }) => {
  host.add("a");
  const missing = await runCli(host, ["show", "b"]);
  assert.is(missing.code, 3);
  assert.is(missing.stderr, "plinth: there is no VM 'b'\nnext: plinth ls\n");
  const wrong = await runCli(host, ["rm", "a"]);
  assert.is(wrong.code, 4);
  assert.match(wrong.stderr, /a is running\nnext: plinth stop a/);
  const denied = await runCli(host, ["create", "b", "--memory", "200G", "--kernel", "linux"]);
  assert.is(denied.code, 6);
  const json = JSON.parse((await runCli(host, ["show", "b", "--json"])).stderr);
  assert.equal(json.error, { code: 3, message: "there is no VM 'b'", object: "b", next: "plinth ls" });
});

test("create from options", async ({ host }) => {
  const line =
    "create a --memory 5G --kernel linux --initrd initrd --restart on-failure:3/60s --start --json".split(
      " ",
    );
  const { code, stdout } = await runCli(host, [...line, "--cmdline", "console=ttyS0 quiet"]);
  assert.is(code, 0);
  assert.is(JSON.parse(stdout).state, "running");
  assert.equal(host.vms.get("a")!.spec, {
    name: "a",
    kernel: "linux",
    initrd: "initrd",
    cmdline: "console=ttyS0 quiet",
    memory: 5 * 2 ** 30,
    start: true,
    restart: { policy: "on-failure", max: 3, window: 60 },
  });
});

test("create with a way to start, modules and a debug exit", async ({ host }) => {
  const line = "create a --memory 8M --kernel k --boot multiboot --module env,a=b,c --module m --debug-exit";
  assert.is((await runCli(host, line.split(" "))).code, 0);
  const spec = host.vms.get("a")!.spec;
  assert.is(spec.boot, "multiboot");
  assert.is(spec.debugExit, true);
  assert.equal(spec.modules, [{ image: "env", cmdline: "a=b,c" }, { image: "m" }]);
  const wrong = await runCli(host, ["create", "b", "--memory", "8M", "--kernel", "k", "--boot", "tape"]);
  assert.is(wrong.code, 2);
  assert.match(wrong.stderr, /tape/);
});

test("create with network cards and a layout of rings", async ({ host }) => {
  const line = "create a --memory 8M --kernel k --network lan --network dmz,52:54:00:00:00:01 --rings split";
  assert.is((await runCli(host, line.split(" "))).code, 0);
  const spec = host.vms.get("a")!.spec;
  assert.equal(spec.networks, [{ network: "lan" }, { network: "dmz", mac: "52:54:00:00:00:01" }]);
  assert.is(spec.rings, "split");
  const wrong = "create b --memory 8M --kernel k --network lan,01:00:00:00:00:01";
  assert.match((await runCli(host, wrong.split(" "))).stderr, /mac '01:00:00:00:00:01' is not the address/);
});

test("create from a file, a host specification and stdin", async ({ host }) => {
  const folder = mkdtempSync(join(tmpdir(), "plinth-"));
  const file = join(folder, "spec.json");
  writeFileSync(file, JSON.stringify({ name: "a", memory: "128M", kernel: "linux" }));
  assert.is((await runCli(host, ["create", "-f", file])).code, 0);
  assert.is((await runCli(host, ["create", "b", "-f", file, "--memory", "64M"])).code, 0);
  assert.is(host.vms.get("b")!.spec.memory, 64 << 20);
  const vms = ["c", "d"].map((name) => ({ name, memory: 1 << 27, kernel: "linux" }));
  writeFileSync(file, JSON.stringify({ version: 1, host: { name: "h" }, vms }));
  const both = await runCli(host, ["create", "-f", file, "--json"]);
  assert.equal(
    JSON.parse(both.stdout).map((row: { name: string }) => row.name),
    ["c", "d"],
  );
  const bad: [unknown, RegExp][] = [
    [
      { name: "e", memory: "1G", kernel: "k", comandline: "" },
      /unknown field 'comandline'; did you mean 'cmdline'/,
    ],
    [
      { name: "e", memory: -1, kernel: "k" },
      /memory '-1' is not a size from 2M to 256G in multiples of 4096 bytes; write for/,
    ],
    [
      { name: "e", memory: "1G", kernel: "k", balloon: "x" },
      /balloon 'x' is not a size|balloon: 'x' is not a size/,
    ],
    [{ name: "e", memory: "1G", kernel: "k", balloon: "2G" }, /balloon must be no more than memory/],
    [{ name: "e", memory: "1G" }, /'kernel' is missing/],
    [{ name: "e", memory: "1G", kernel: "k", boot: "tape" }, /boot 'tape' is none of auto, linux/],
    [{ name: "e", memory: "1G", kernel: "k", modules: "m" }, /'modules' is no list/],
    [
      { name: "e", memory: "1G", kernel: "k", modules: [{ cmdline: "" }] },
      /modules\[0\]: 'image' is missing/,
    ],
    [{ name: "e", memory: "1G", kernel: "k", debugExit: "yes" }, /'debugExit' is neither true nor false/],
    [{ name: "e", memory: "1G", kernel: "k", networks: "lan" }, /'networks' is no list/],
    [
      { name: "e", memory: "1G", kernel: "k", networks: [{ mac: "" }] },
      /networks\[0\]: 'network' is missing/,
    ],
    [{ name: "e", memory: "1G", kernel: "k", networks: [{ net: "lan" }] }, /did you mean 'network'/],
    [{ name: "e", memory: "1G", kernel: "k", rings: "round" }, /rings 'round' is none of packed, split/],
    [{ version: 2, vms }, /'version' is 2, this plinth reads version 1/],
    [[], /it is no specification: an object with fields/],
  ];
  for (const [value, message] of bad) {
    writeFileSync(file, JSON.stringify(value));
    const { code, stderr } = await runCli(host, ["create", "-f", file]);
    assert.is(code, 2);
    assert.match(stderr, message);
  }
  writeFileSync(file, "{");
  assert.is((await runCli(host, ["create", "-f", file])).code, 2);
  rmSync(folder, { recursive: true });
  assert.is((await runCli(host, ["create", "-f", file])).code, 3);
});

test("the life of a VM", async ({ host }) => {
  host.add("a", "stopped");
  for (const [command, state] of [
    ["start", "running"],
    ["pause", "paused"],
    ["resume", "running"],
    ["reset", "running"],
  ] as const) {
    const { code, stdout } = await runCli(host, [command, "a", "--json", "--wait"]);
    assert.is(code, 0, command);
    assert.is(JSON.parse(stdout).state, state);
  }
  host.onPowerButton = (vm) => void (host.vms.get(vm)!.state = "stopped");
  const stopped = await runCli(host, ["stop", "a", "--wait"]);
  assert.match(stopped.stderr, /a: stopped/);
  const removed = await runCli(host, ["rm", "a", "--wait"]);
  assert.is(removed.stderr, "a: removed\n");
  assert.is(host.vms.size, 0);
});

test("several VMs at once", async ({ host }) => {
  host.add("a");
  host.add("b");
  const { stdout } = await runCli(host, ["stop", "a", "b", "--force", "--json"]);
  assert.equal(
    JSON.parse(stdout).map((row: { state: string }) => row.state),
    ["stopped", "stopped"],
  );
});

test("--wait that runs out of time says where it stands and shows the console", async ({ host }) => {
  host.add("a", "running", "one\ntwo\nBusy with something\n");
  const { code, stderr } = await runCli(host, ["stop", "a", "--wait", "--timeout", "300ms"]);
  assert.is(code, 5);
  assert.match(stderr, /a is not stopped after 300 ms but running/);
  assert.match(stderr, /\| Busy with something/);
  assert.match(stderr, /next: plinth stop a --force/);
});

test("--wait ends when the VM crashes", async ({ host }) => {
  host.add("a");
  host.onPowerButton = (vm) =>
    void Object.assign(host.vms.get(vm)!, { state: "crashed", reason: "triple fault" });
  const { code, stderr } = await runCli(host, ["stop", "a", "--wait"]);
  assert.is(code, 1);
  assert.match(stderr, /a crashed while waiting for it to be stopped: triple fault/);
});

test("images and doctor", async ({ host }) => {
  assert.match((await runCli(host, ["images"])).stdout, /linux +13\.4 MiB\ninitrd +4\.66 GiB/);
  const doctor = await runCli(host, ["doctor"]);
  assert.is(doctor.code, 1);
  assert.match(
    doctor.stdout,
    /ok +connection: .*\nok +vtx: VT-x with EPT\nFAIL +tsc-scaling: no TSC scaling/,
  );
  assert.match(doctor.stderr, /1 of 3 checks failed: tsc-scaling/);
});

test("logs, of a VM longer than one reply and of the host", async ({ host }) => {
  const text = Array.from({ length: 500 }, (_, n) => `line ${n}\n`).join("");
  host.add("a", "running", text);
  assert.is((await runCli(host, ["logs", "a"])).stdout, text);
  assert.is((await runCli(host, ["logs"])).stdout, "plinth: kernel log\n");
  const records = (await runCli(host, ["logs", "a", "--json"])).stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.is(records.map((record) => record.text).join(""), text);
});

test("logs --boot prints the text of the line's record", async ({ host }) => {
  assert.is((await runCli(host, ["logs", "--boot"])).code, 3);
  writeFileSync(
    join(host.folder, "serial.log"),
    Buffer.concat([Buffer.from("GRUB\n"), Buffer.from([0, 3, 1, 1, 0]), Buffer.from("plinth> ")]),
  );
  assert.match((await runCli(host, ["logs", "--boot"])).stdout, /^GRUB\n.*plinth> $/s);
});

test("events, all, since and followed", async ({ host }) => {
  for (let n = 1; n <= 40; n++) host.event("vm-created", "a", `event ${n}`);
  const all = (await runCli(host, ["events", "--json"])).stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(
    all.map((event) => event.seq),
    Array.from({ length: 40 }, (_, n) => n + 1),
  );
  assert.match(
    (await runCli(host, ["events", "--since", "39"])).stdout,
    /^ +40 .*vm-created +a: event 40\n$/,
  );
  const following = startCli(host, ["events", "--follow", "--json", "--since", "40"]);
  await until(() => host.requests.some((request) => request.op === "events.watch"), "watch");
  host.event("vm-crashed", "a", "one");
  await until(() => following.stdout().includes("one"), "the pushed event");
  host.restart();
  host.event("vm-crashed", "a", "two");
  await until(() => following.stdout().includes("two"), "the event after the restart");
  await host.stop();
  assert.is((await following.result).code, 5);
  const seqs = following
    .stdout()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line).seq);
  assert.equal(seqs, [41, 42]);
});

test("test trap: the new control domain answers", async ({ host }) => {
  const { code, stderr } = await runCli(host, ["test", "trap"]);
  assert.is(code, 0, stderr);
  assert.match(stderr, /0 -> 1 restarts/);
});

test("test trap-model", async ({ host }) => {
  host.add("a");
  assert.match((await runCli(host, ["test", "trap-model", "a"])).stderr, /a: crashed/);
});

test("rig status without a rig", async ({ host }) => {
  const { code, stderr } = await runCli(host, ["rig", "status"]);
  assert.is(code, 5);
  assert.match(stderr, /no rig is running in .*\nnext: plinth rig up/);
  assert.is((await runCli(host, ["rig", "down"])).code, 0);
});

test("rig up without an image", async ({ host }) => {
  const { code, stderr } = await runCli(host, ["rig", "up", "--iso", "/nonexistent.iso"]);
  assert.is(code, 1);
  assert.match(stderr, /nonexistent\.iso: no such boot image\nnext: make iso/);
});

test("shell: typed bytes go as they are, frames are not shown", async ({ host }) => {
  const shell = startCli(host, ["shell"], { tty: true });
  await until(() => host.received.length > 0, "the newline that asks for a prompt");
  assert.ok(shell.raw());
  host.raw(Buffer.from("plinth> "));
  host.send({ id: 1, ok: true });
  await until(() => shell.stdout() === "plinth> ", "the prompt");
  shell.stdin.write("ls\r");
  await until(() => Buffer.concat(host.received).toString() === "\rls\r", "what was typed");
  shell.stdin.write("~.");
  assert.is((await shell.result).code, 0);
  assert.not(shell.raw());
  assert.match(shell.stderr(), /leave with ~\..*Ctrl-\]/);
});

test("the README names every command", () => {
  const readme = readFileSync("control/cli/README.md", "utf8");
  for (const name of ["status", "create", "console", "rig up", "PLINTH_CONNECT"])
    assert.ok(readme.includes(name), name);
});

test.run();
