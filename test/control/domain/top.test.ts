// `top`: the counters as a document, and the shell's live table on a terminal and on what is none.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

const MS = 1_000_000n; /* TSC ticks of the model */

/** Lets a VM's first vCPU have run and waited. */
function ran(rig: Rig, name: string, run: number, ready = 0): void {
  const vcpu = rig.kernel.vm(`vm/${name}`).vcpu;
  vcpu.runTime += BigInt(run) * MS;
  vcpu.readyTime += BigInt(ready) * MS;
}

test("the counters of host and VMs, monotonic", () => {
  const rig = new Rig({ cpus: 2 });
  ran(rig, "a", 30, 20);
  rig.kernel.vm("vm/a").vcpu.counters.set(12, 7).set(30, 5);
  rig.wait(100);
  const first = rig.ok("top");
  const [a, b] = first["vms"] as Message[];
  assert.is(first["cpus"], 2);
  assert.ok(Number(first["free"]) < Number(first["total"]));
  assert.ok(Number(first["idle"]) <= 2 * Number(first["time"]));
  assert.is(a!["run"], 30_000);
  assert.is(a!["ready"], 20_000);
  assert.equal(a!["counters"], { hlt: 7, io: 5 });
  assert.is(b!["run"], 0);
  // A CPU's last moments may be read as less than before: that is not told.
  rig.kernel.vm("vm/a").vcpu.runTime -= 5n * MS;
  const second = rig.ok("top");
  assert.is((second["vms"] as Message[])[0]!["run"], 30_000);
  assert.ok(Number(second["time"]) > Number(first["time"]));
  assert.ok(Number(second["idle"]) >= Number(first["idle"]));
  rig.ok("reset", { vm: "a" });
  const third = (rig.ok("top")["vms"] as Message[])[0]!;
  assert.is(third["run"], 0);
  assert.is.not(third["starts"], a!["starts"]);
});

test("as many VMs as a frame holds, each once", () => {
  const rig = new Rig({ spec: hostSpec([]), memory: 1024 * MIB });
  for (let n = 0; n < 20; n++) {
    rig.ok("create", { spec: vmSpec(`vm${n}`, { memory: 16 * MIB }) });
    for (let reason = 0; reason < 60; reason++) rig.kernel.vm(`vm/vm${n}`).vcpu.counters.set(reason, 2 ** 31);
  }
  const names: unknown[] = [];
  for (let from: unknown = 0; from !== undefined;) {
    const page = rig.ok("top", { from: from as number });
    names.push(...(page["vms"] as Message[]).map((vm) => vm["name"]));
    from = page["next"];
  }
  assert.equal(
    names,
    Array.from({ length: 20 }, (_, n) => `vm${n}`),
  );
});

test("a terminal: drawn in place every two seconds, tenants at t, any other key leaves", () => {
  const rig = new Rig({
    spec: { ...hostSpec([vmSpec("a"), vmSpec("b", { tenant: "red" })]), tenants: [{ name: "red" }] },
  });
  rig.terminal = { rows: 24, columns: 80 };
  const first = rig.command("top");
  assert.match(
    first,
    /^\x1b\[H\x1b\[2Jtest, up .*; since its start of 1 CPU; t: tenants, any other key leaves\x1b\[K\n/,
  );
  assert.match(
    first,
    /\nNAME +STATE +MEMORY +RUN% +READY% +MODEL% +EXITS\/S +MOST EXITS\x1b\[K\na +running +64 MiB/,
  );
  rig.kernel.vm("vm/a").vcpu.counters.set(12, 300);
  ran(rig, "a", 1000, 500);
  const next = rig.wait(2100);
  assert.match(next, /^\x1b\[Htest, up .*; over 2\.\d s of 1 CPU;/);
  assert.match(next, /\r\n(4[6-9]|50)\.\d % VMs, \d+\.\d % models, \d+\.\d % host, (4\d|50)\.\d % idle; /);
  assert.match(next, /\na +running +64 MiB +(4[6-9]|50)\.\d +2[345]\.\d +0\.0 +\d+ +hlt 1\d\d\x1b\[K/);
  assert.not.match(next, /\x1b\[2J/);
  const tenants = rig.type("t");
  assert.match(tenants, /^\x1b\[H.*t: VMs,.*\r\n.*\r\nTENANT +VMS .*\r\ndefault +1 VM .*\r\nred +1 VM /);
  assert.match(rig.type("q"), /plinth> $/);
  assert.is(rig.wait(5000), "");
  assert.match(rig.command("top tenants"), /\nTENANT/);
  // The up arrow leaves too, and is what it always is.
  assert.match(rig.type("\x1b[A"), /plinth> top tenants$/);
});

test("a terminal that is gone ends it; a low one shows what fits", () => {
  const vms = Array.from({ length: 12 }, (_, n) => vmSpec(`vm${n}`, { memory: 8 * MIB }));
  const rig = new Rig({ spec: hostSpec(vms) });
  rig.terminal = { rows: 10, columns: 60 };
  const screen = rig.command("top");
  assert.match(screen, /\nvm4 .*\n\.\.\. 7 more\x1b\[K\n\x1b\[J$/);
  for (const line of screen.split("\n")) assert.ok(line.replace(/\x1b\[\d*[A-Z]/g, "").length < 60, line);
  rig.terminal = undefined;
  const after = rig.wait(2100) + rig.wait(2100) + rig.wait(2100) + rig.wait(2100) + rig.wait(2100);
  assert.match(after, /\[top has ended: the terminal does not answer\]\r\nplinth> $/);
  assert.match(rig.command("version"), /^plinth control/);
});

test("what is no terminal gets plain text again and again, until a key", () => {
  const rig = new Rig();
  const first = rig.command("top");
  assert.match(first, /^test, up .*\n.* % idle; .*\nNAME .*\na .*\nb .*\n\n$/);
  assert.not.match(rig.wait(2100) + rig.wait(2100), /\x1b/);
  assert.match(rig.type("x"), /plinth> $/);
  assert.match(rig.command("top x"), /^error: top: "x" is too much/);
});

test.run();
