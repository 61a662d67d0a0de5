// Broken inputs: each gives its error, which names the object, the cause and what to do next, and the host stays
// usable, its memory complete, its VMs undisturbed. The image's own host specification is broken, too.
// rigs: AMD-V, VT-x (long)

import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ErrorCode, PlinthError } from "../../control/cli/errors";
import { frameEncode } from "../../control/protocol/node/frame";
import { Random } from "../cli/random";
import { Host } from "./host";
import { Terminal } from "./terminal";

const MIB = 1 << 20;
const GUEST = "eve";

const test = suite<{ host: Host }>("bad input");

test.before(async (context) => {
  context.host = await Host.boot("bad-input", join("build", "bad-input.iso"));
});
test.after(async (context) => context.host?.stop());

/** Plain bytes on the line, then gone. */
function hangUpAfter(path: string, bytes: Uint8Array | string): Promise<void> {
  return new Promise((done, fail) => {
    const socket = connect(path, () => socket.end(bytes));
    socket.on("error", fail);
    socket.on("close", () => done());
    socket.resume();
  });
}

/** The host answers programs and people, has lost no memory, and its VM has missed no tick. */
async function stillUsable(host: Host, free: number): Promise<void> {
  assert.equal(
    (await host.client.list()).map(({ name, state }) => [name, state]),
    [[GUEST, "running"]],
  );
  const terminal = await Terminal.open(host.path);
  terminal.type("\x1d\x03");
  await terminal.expect(/plinth> $/);
  assert.match(await terminal.command("ls"), new RegExp(`^${GUEST} +running`, "m"));
  await terminal.close();
  assert.is(await host.free(), free);
  await host.waitTick(GUEST);
  await host.missedNoTick(GUEST);
}

/** Memory of a VM, in bytes, that ends right behind the kernel. */
function justTheKernel(): number {
  const image = readFileSync(join("build", "guest", "linux"));
  const end = Number(image.readBigUInt64LE(0x258)) + image.readUInt32LE(0x260);
  return Math.ceil(end / MIB) * MIB;
}

let free = 0;

test("a broken host specification: the host comes up without VMs and says why", async ({ host }) => {
  assert.equal(await host.client.list(), []);
  const { events } = await host.client.events(0);
  const broken = events.find((event) => event.kind === "spec-error");
  assert.match(broken?.text ?? "", /^host specification: it is not a CBOR map/);
  const line = readFileSync(host.rig.serialLog, "latin1");
  assert.match(line, /error: host specification: it is not a CBOR map\r?\n +next: /);
  await host.createLinux(GUEST, "80M");
  await host.startTicks(GUEST);
  free = await host.free();
  await stillUsable(host, free);
});

const REFUSED: [string, number, RegExp[], string[]][] = [
  ["an unknown kernel", 3, [/VM "x": there is no image "linus"/, /images/], ["64M", "linus"]],
  ["an unknown initrd", 3, [/VM "x": there is no image "initr"/, /images/], ["64M", "linux", "initr"]],
  ["more memory than there is", 1, [/VM "x": needs 2,\d+ MiB, \d+ MiB are free/, /next: /], ["2G", "linux"]],
  [
    "more memory than a VM may have",
    2,
    [/VM 'x': memory '1073741824000' is not a size from 2M to 256G/],
    ["1000G", "linux"],
  ],
  ["no memory", 2, [/memory/], ["0", "linux"]],
  ["hardly any memory", 2, [/VM 'x': memory '4096' is not a size from 2M to 256G/], ["4K", "linux"]],
  [
    "a piece of a page",
    2,
    [/VM 'x': memory '33554433' is not .* in multiples of 4096 bytes/],
    ["33554433", "linux"],
  ],
];
for (const [name, code, said, [memory, kernel, initrd]] of REFUSED) {
  test(`create with ${name}`, async ({ host }) => {
    const images = ["--kernel", kernel!, ...(initrd === undefined ? [] : ["--initrd", initrd])];
    await host.refused(
      code,
      [...said, /next: plinth /],
      "create",
      "x",
      "--memory",
      memory!,
      ...images,
      "--start",
    );
    assert.is(await host.state("x"), "absent");
    assert.is(await host.free(), free);
  });
}

test("create with other nonsense", async ({ host }) => {
  const usual = ["--memory", "32M", "--kernel", "linux"];
  await host.refused(2, [/name 'No Name' is not a name: up to 27 of/], "create", "No Name", ...usual);
  await host.refused(4, [/VM "eve": there is one/, /next: plinth show eve/], "create", GUEST, ...usual);
  await host.refused(
    2,
    [/cmdline 'y+…' is not a text of up to 1024 characters/],
    "create",
    "x",
    ...usual,
    "--cmdline",
    "y".repeat(1025),
  );
  await host.refused(
    2,
    [/vcpus '64' is not a whole number from 1 to 16/],
    "create",
    "x",
    ...usual,
    "--vcpus",
    "64",
  );
  await host.client.create({ name: "x", memory: 0, kernel: "linux" }).then(
    () => assert.unreachable(),
    (error: PlinthError) => {
      assert.is(error.code, ErrorCode.USAGE);
      assert.match(error.message, /^VM "x": memory is 0/);
    },
  );
  assert.is(await host.free(), free);
});

const BROKEN: [string, number, string, string | undefined, RegExp][] = [
  ["a truncated kernel", 64 * MIB, "truncated", "initrd", /truncated: .*it is truncated/],
  ["a kernel that is none", 64 * MIB, "initrd", "initrd", /initrd: boot: neither a Linux bzImage/],
  ["a kernel that does not fit", 32 * MIB, "linux", "initrd", /linux: .*does not fit the VM's memory/],
  ["an initrd that does not fit", justTheKernel(), "linux", "initrd", /initrd: .*do not fit in the/],
];
for (const [name, memory, kernel, initrd, reason] of BROKEN) {
  test(`start with ${name}`, async ({ host }) => {
    const images = ["--kernel", kernel, ...(initrd === undefined ? [] : ["--initrd", initrd])];
    const command = ["create", "x", "--memory", String(memory), ...images, "--start", "--wait"];
    await host.refused(1, [/x crashed/, reason, /next: plinth logs x/], ...command);
    const shown = await host.client.show("x");
    assert.is(shown.state, "crashed");
    assert.match(shown.reason, reason);
    const { events } = await host.client.events((await host.client.lastEvent()) - 1);
    assert.equal([events[0]!.kind, events[0]!.vm], ["vm-failed", "x"]);
    await host.refused(4, [/"x" is crashed/, /next: plinth start x/], "stop", "x");
    await host.ok("rm", "x", "--wait");
    assert.is(await host.free(), free);
  });
}

test("the host is usable after all of these", async ({ host }) => {
  await stillUsable(host, free);
});

test("unknown commands and VMs", async ({ host }) => {
  await host.refused(2, [/no command 'strat'|unknown command 'strat'/, /start/], "strat", GUEST);
  await host.refused(3, [/there is no VM "ewe", did you mean "eve"\?/, /next: plinth ls/], "show", "ewe");
  await host.refused(4, [/"eve" is running/, /next: plinth stop eve/], "rm", GUEST);
  const terminal = await Terminal.open(host.path);
  const said = await terminal.command("strat eve");
  assert.match(said, 'error: there is no command "strat"\nnext:  did you mean start?');
  await terminal.close();
  await host.client.line.request("no.such.op", {}, { timeout: 30_000 }).then(
    () => assert.unreachable(),
    (error: PlinthError) => assert.match(error.message, "no.such.op"),
  );
});

test("garbage on the line", async ({ host }) => {
  const garbage = new Random(7).bytes(3000);
  await hangUpAfter(host.path, garbage);
  await hangUpAfter(host.path, Buffer.concat([Buffer.from([0]), garbage]));
  await stillUsable(host, free);
});

test("broken, oversized and half frames are counted, and the next one is answered", async ({ host }) => {
  const before = (await host.client.status()).badFrames;
  const good = frameEncode({ id: 1, op: "ls" });
  const broken = Buffer.from(good);
  broken[5]! ^= 0x40;
  await hangUpAfter(host.path, broken);
  await hangUpAfter(host.path, Buffer.concat([Buffer.from([0]), Buffer.alloc(6000, 0x41), Buffer.from([0])]));
  for (let length = 2; length < good.length; length++) await hangUpAfter(host.path, good.subarray(0, length));
  await stillUsable(host, free);
  const after = (await host.client.status()).badFrames;
  assert.ok(after >= before + good.length - 2, `${before} bad frames, then ${after}`);
});

test("clients that hang up in mid-command", async ({ host }) => {
  await hangUpAfter(host.path, "rm ev");
  await hangUpAfter(host.path, frameEncode({ id: 2, op: "show", vm: GUEST }));
  await hangUpAfter(host.path, frameEncode({ id: 3, op: "console.attach", vm: GUEST }));
  const spec = { name: "x", memory: 32 * MIB, kernel: "linux", start: false };
  await hangUpAfter(host.path, frameEncode({ id: 4, op: "create", spec }));
  while ((await host.state("x")) === "absent");
  await host.ok("rm", "x", "--wait");
  await stillUsable(host, free);
});

test("a flood of frames and of typing", async ({ host }) => {
  const frames = Array.from({ length: 1000 }, (_, n) => frameEncode({ id: 1000 + n, op: "status" }));
  await Promise.all([
    hangUpAfter(host.path, Buffer.concat(frames)),
    hangUpAfter(host.path, "status\r".repeat(500)),
  ]);
  await stillUsable(host, free);
});

test.run();
