// Snapshots and migration with the shipping control domain, which runs on the model of the kernel.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { DomainState, Role } from "../../control/gen/abi";
import { hostSpec, MIB, vmSpec } from "../control/domain/rig";
import { ModelHost } from "./model-host";
import { done, type Result, runCli } from "./run-cli";

interface World {
  host: ModelHost;
  other: ModelHost;
  folder: string;
  run: (line: string, where?: ModelHost) => Promise<Result>;
}

const test = suite<World>("snapshots of the control domain");

test.before.each(async (context) => {
  context.host = new ModelHost();
  context.other = new ModelHost({ spec: hostSpec([vmSpec("z")]) });
  await context.host.start();
  await context.other.start();
  context.folder = mkdtempSync(join(tmpdir(), "plinth-host-"));
  context.run = (line, where = context.host) =>
    runCli(where, line.split(" "), { env: { HOME: context.folder } });
});
test.after.each(async ({ host, other, folder }) => {
  await host.stop();
  await other.stop();
  rmSync(folder, { recursive: true });
});

function write(host: ModelHost, at: number, text: string): void {
  host.rig.kernel.domain("vm/a", Role.VM).space.write(at, Buffer.from(text));
}

function read(host: ModelHost, label: string, at: number, length: number): string {
  return Buffer.from(host.rig.kernel.domain(label, Role.VM).space.read(at, length)).toString();
}

test("create, ls, show, restore, clone, diff, rm", async ({ host, run }) => {
  write(host, 5 * MIB, "before");
  assert.match((await done(run("snapshot create a --note first"))).stderr, /^a-1: 64 MiB of a are kept\n$/);
  assert.match((await done(run("snapshot ls"))).stdout, /\na-1 +a +\d{4}-.* +complete +first\n/);
  assert.match((await done(run("snapshot show a-1"))).stdout, /\nvendor +intel\n(.*\n)*note +first\n/);
  write(host, 5 * MIB, "after!");
  await done(run("snapshot create a"));
  assert.match((await done(run("snapshot diff a-1 a-2"))).stdout, /\nmemory +1 +16384 +4 KiB\n/);
  assert.is((await run("snapshot restore a-1")).code, 4);
  assert.match((await done(run("snapshot restore a-1 --force"))).stderr, /^a: running, goes on from a-1\n$/);
  assert.is(read(host, "vm/a", 5 * MIB, 6), "before");
  assert.match((await done(run("snapshot clone a-2 c --paused"))).stderr, /^c: paused, goes on from a-2\n$/);
  assert.is(read(host, "vm/c", 5 * MIB, 6), "after!");
  await done(run("snapshot rm a-1 a-2"));
  assert.equal(JSON.parse((await done(run("snapshot ls --json"))).stdout).snapshots, []);
  assert.equal(host.rig.kernel.traps, []);
});

test("to the repository, to another host, and by one file", async ({ host, other, run, folder }) => {
  write(host, 5 * MIB, "one");
  await done(run("snapshot create a first"));
  assert.match((await done(run("snapshot export first"))).stderr, /were sent of/);
  write(host, 6 * MIB, "two");
  await done(run("snapshot create a second"));
  const file = join(folder, "second.plinth");
  const second = JSON.parse((await done(run(`snapshot export second ${file} --base first --json`))).stdout);
  assert.ok(second.sent < 64 * 4096, `${second.sent} bytes`);
  assert.match(
    (await done(run("snapshot verify second --host", other))).stdout,
    /host +has all that it needs\n/,
  );
  assert.match((await done(run("snapshot import first", other))).stderr, /^first is on the host/);
  const json = JSON.parse((await done(run(`snapshot import ${file} --json`, other))).stdout);
  assert.ok(json.sent <= second.sent + 64 * 4096, `${json.sent} bytes`);
  assert.match((await done(run("snapshot restore second", other))).stderr, /^a: running/);
  assert.is(read(other, "vm/a", 5 * MIB, 3), "one");
  assert.is(read(other, "vm/a", 6 * MIB, 3), "two");
  await done(run("snapshot verify"));
  // The copy of it goes back the same way, and is the same.
  const again = JSON.parse((await done(run("snapshot export second --as third --json", other))).stdout);
  assert.is(again.sent, 0);
  assert.match((await done(run("snapshot diff second third --local"))).stdout, /\nmemory +0 +16384 +0 B\n/);
  assert.equal([...host.rig.kernel.traps, ...other.rig.kernel.traps], []);
});

test("Ctrl-C in both directions, and a control domain that restarts", async ({ host, other, run }) => {
  for (let n = 0; n < 100; n++) write(host, 5 * MIB + n * 4096, `page ${n}`);
  await done(run("snapshot create a s"));
  const when = async (op: string, on: ModelHost, count: number, act: () => void): Promise<void> => {
    const start = on.asked.length;
    while (on.asked.slice(start).filter((asked) => asked === op).length < count)
      await new Promise((resolve) => setTimeout(resolve, 1));
    act();
  };
  void when("snapshot.read", host, 30, () => process.emit("SIGINT"));
  assert.is((await run("snapshot export s")).code, 130);
  await done(run("snapshot export s"));
  void when("snapshot.write", other, 30, () => process.emit("SIGINT"));
  assert.is((await run("snapshot import s", other)).code, 130);
  assert.match((await done(run("snapshot ls", other))).stdout, /\ns +a .* incoming/);
  const writes = other.asked.filter((op) => op === "snapshot.write").length;
  void when("snapshot.write", other, 20, () => void run("test trap", other));
  await done(run("snapshot import s", other));
  assert.ok(other.asked.filter((op) => op === "snapshot.write").length > writes);
  await done(run("snapshot restore s", other));
  assert.is(read(other, "vm/a", 5 * MIB + 99 * 4096, 7), "page 99");
});

test("a host that lacks something says what, before anything is sent", async ({ run, other }) => {
  await done(run("snapshot create a s"));
  await done(run("snapshot export s"));
  await done(run("rm z --force", other));
  await done(run("create a --memory 64M --kernel linux --initrd initrd", other));
  assert.is((await run("snapshot import s --as A", other)).code, 2);
  await done(run("snapshot import s", other));
  assert.is((await run("snapshot import s --as t", other)).code, 0);
});

test("a VM moves to another host, and back", async ({ host, other, run }) => {
  write(host, 5 * MIB, "moved");
  assert.match((await done(run(`migrate a --to ${other.path} --dry-run`))).stderr, /^a can go on on /);
  const there = await done(run(`migrate a --to ${other.path}`));
  assert.match(there.stderr, /^a is on .*: .* in \d rounds, it stood still for /m);
  assert.is((await run("show a")).code, 3);
  assert.is(JSON.parse((await done(run("show a --json", other))).stdout).state, "running");
  assert.is(read(other, "vm/a", 5 * MIB, 5), "moved");
  await done(run(`migrate a --to ${host.path}`, other));
  assert.is(read(host, "vm/a", 5 * MIB, 5), "moved");
  for (const where of [host, other]) {
    assert.equal(JSON.parse((await done(run("snapshot ls --json", where))).stdout).snapshots, []);
    assert.equal(where.rig.kernel.traps, []);
  }
});

test("a paused VM moves, and is paused there", async ({ host, other, run }) => {
  write(host, 5 * MIB, "still");
  await done(run("pause a"));
  await done(run(`migrate a --to ${other.path}`));
  assert.is(JSON.parse((await done(run("show a --json", other))).stdout).state, "paused");
  await done(run("snapshot create a there", other));
  await done(run("resume a", other));
  assert.is(read(other, "vm/a", 5 * MIB, 5), "still");
});

test("a VM that brings its disk starts again where the disk's image is another one, or is not there", async ({
  run,
}) => {
  const from = new ModelHost({ firmware: new Uint8Array(90_000).fill(3) });
  const others = [new ModelHost({ firmware: new Uint8Array(40_000).fill(4) }), new ModelHost({})];
  const hosts = [from, ...others];
  for (const each of hosts) await each.start();
  try {
    const images = "--kernel linux --initrd initrd --disk seabios";
    await done(run(`create d --memory 64M ${images} --start`, from));
    let here = from;
    for (const there of others) {
      await done(run(`migrate d --to ${there.path}`, here));
      await done(run("reset d --wait", there));
      assert.is(JSON.parse((await done(run("show d --json", there))).stdout).state, "running");
      assert.equal(there.rig.kernel.traps, []);
      here = there;
    }
    // A new one has no disk yet.
    assert.match(
      (await run(`create e --memory 64M ${images} --start`, here)).stderr,
      /there is no image "seabios"/,
    );
  } finally {
    for (const each of hosts) await each.stop();
  }
});

test("a VM that writes all the time is whole on the other host", async ({ host, other, run }) => {
  let count = 0;
  const timer = setInterval(() => {
    const vm = [...host.rig.kernel.domains].find(({ label }) => label === "vm/a");
    if (vm?.state !== DomainState.ACTIVE) return;
    for (let n = 0; n < 10; n++) write(host, 8 * MIB + 4096 * (count % 60), `write ${++count};`);
  }, 3);
  try {
    await done(run(`migrate a --to ${other.path} --downtime 50ms`));
  } finally {
    clearInterval(timer);
  }
  assert.ok(count > 0);
  for (let n = Math.max(1, count - 59); n <= count; n++) {
    const text = `write ${n};`;
    assert.is(read(other, "vm/a", 8 * MIB + 4096 * ((n - 1) % 60), text.length), text);
  }
});

test("the other host is lost when the VM is to go on there: a person says which has it", async ({
  host,
  other,
  run,
}) => {
  write(host, 5 * MIB, "moved");
  other.onAsked = (op) => {
    if (op === "resume") other.cut();
  };
  const { code, stderr } = await run(`migrate a --to ${other.path} --timeout 1s`);
  assert.is(code, 5, stderr);
  assert.match(
    stderr,
    /a was given up here, and nobody knows whether it runs on .*; to finish: plinth resume a, on /,
  );
  const show = async (): Promise<unknown> => JSON.parse((await done(run("show a --json"))).stdout).state;
  assert.is(await show(), "moved");
  await run("test trap");
  assert.is(await show(), "moved", "also for the next control domain");
  for (const line of ["start a", "resume a", "reset a --force", "set a tags=x"]) {
    const refused = await run(line);
    assert.is(refused.code, 4, line);
    assert.match(refused.stderr, /has moved to another host\nnext: plinth rm a, or resume a --force/, line);
  }
  assert.match((await done(run("resume a --force"))).stderr, /^a: running/);
  assert.is(read(host, "vm/a", 5 * MIB, 5), "moved");
  assert.is(host.rig.kernel.traps.length, 1, "the one that was asked for");
});

test("the other host is lost at each step: the VM runs on here", async ({ run }) => {
  for (const [op, count] of [
    ["snapshot.begin", 2],
    ["snapshot.write", 1],
    ["snapshot.write", 9],
    ["snapshot.end", 1],
    ["snapshot.restore", 1],
  ] as const) {
    const lost = new ModelHost({ spec: hostSpec([]) });
    await lost.start();
    let left: number = count;
    lost.onAsked = (asked) => {
      if (asked === op && --left === 0) lost.cut();
    };
    const { code, stderr } = await run(`migrate a --to ${lost.path} --timeout 2s`);
    await lost.stop();
    assert.is(code, 5, `${op}: ${stderr}`);
    assert.match(
      stderr,
      /a was not moved: .*left to do: (plinth rm a --force, on .*; )?plinth snapshot rm moving-/,
      `${op}: ${stderr}`,
    );
    assert.is(JSON.parse((await done(run("show a --json"))).stdout).state, "running", op);
    assert.equal(JSON.parse((await done(run("snapshot ls --json"))).stdout).snapshots, [], op);
  }
});

test.run();
