// plinth audit replay: the same decisions from the same facts, and lies that are found.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readAudit, type AuditRecord } from "../../control/cli/audit";
import type { Client } from "../../control/cli/client";
import { replayRecord } from "../../control/cli/replay";
import { Hooks } from "../../control/domain/hooks/hooks";
import { hooks as labHooks } from "../../control/domain/hooks/lab";
import { cborDecode, cborEncode, type Message } from "../../control/protocol/node/cbor";
import { GPA_SHARED } from "../../control/gen/abi";
import { Protocol, Specification } from "../../control/protocol/schema";
import { hostSpec, MIB, Rig, vmSpec } from "../control/domain/rig";
import { ModelHost } from "./model-host";
import { Random } from "./random";
import { runCli } from "./run-cli";

const test = suite("replay");
const lab = new Uint8Array(readFileSync("build/control-lab.wasm"));
const tenants = [{ name: "lab", memory: 300 * MIB, vms: 3 }, { name: "default" }];
const spec = (...vms: Message[]): Message => ({ ...hostSpec(vms), tenants });

/** The library against a rig, as far as it is needed. */
function clientOf(rig: Rig): Client {
  return {
    audit: async (from: number) => rig.ok("audit", { from }),
    auditFacts: async (at: number, size: number) => {
      const pieces: Uint8Array[] = [];
      for (let from: number | undefined = 0; from !== undefined;) {
        const reply = rig.request("audit.facts", { at, size, from });
        if (reply["ok"] !== true) return null;
        const page = reply["result"] as { data: Uint8Array; next?: number };
        pieces.push(page.data);
        from = page.next;
      }
      return new Uint8Array(Buffer.concat(pieces));
    },
  } as unknown as Client;
}

interface Decision {
  record: AuditRecord;
  facts: Uint8Array | null;
}

async function decisions(rig: Rig): Promise<Decision[]> {
  const client = clientOf(rig);
  const out: Decision[] = [];
  for (const record of (await readAudit(client)).records)
    if (record.facts) out.push({ record, facts: await client.auditFacts(record.facts[0], record.facts[1]) });
  return out;
}

/** What replaying says, one line for each decision. */
const said = (all: Decision[], hooks = new Hooks()): string[] =>
  all.map(({ record, facts }) => {
    const { problem, skipped } = replayRecord(record, facts, hooks);
    return `${record.kind} ${record.code}: ${problem}${skipped}`;
  });

/** Decisions of every kind, allowed and not. */
function decide(rig: Rig): void {
  rig.apply(spec(vmSpec("a", { tenant: "lab" }), vmSpec("b", { memory: 96 * MIB })));
  rig.request("create", { spec: vmSpec("c", { tenant: "lab", tags: ["web"] }) });
  rig.request("create", { spec: vmSpec("d", { tenant: "lab", memory: 256 * MIB }) });
  rig.request("set", { vm: "a", spec: { tags: ["blue", "green"] } });
  rig.apply(spec(vmSpec("a", { tenant: "lab", memory: 400 * MIB }), vmSpec("x", { kernel: "nothing" })));
  rig.apply(spec(vmSpec("a", { tenant: "lab" }), vmSpec("c", { tenant: "lab", memory: 32 * MIB })));
}

test("the same decisions come out, with what was decided on kept over restarts", async () => {
  const rig = new Rig();
  decide(rig);
  const all = await decisions(rig);
  const expected = ["apply 0: ", "create 0: ", "create 6: ", "set 0: ", "apply 3: ", "apply 0: "];
  assert.equal(said(all), expected);
  assert.equal(
    (cborDecode(all[1]!.facts!)!["spec"] as Message)["tags"],
    ["web"],
    "the whole request is there",
  );
  assert.throws(() => rig.request("test.trap"), /no reply/);
  assert.equal(said(await decisions(rig)), expected);
  rig.request("set", { vm: "a", spec: { tags: [] } });
  assert.equal(said(await decisions(rig)), [...expected, "set 0: "]);
});

test("with policy hooks: by those, and not by others", async () => {
  const rig = new Rig({ wasm: lab, memory: 8192 * MIB });
  rig.request("create", { spec: vmSpec("free", { memory: 2048 * MIB }) });
  rig.apply(spec(vmSpec("big", { tenant: "lab", memory: 1025 * MIB })));
  rig.apply({ ...spec(vmSpec("big", { tenant: "lab", memory: 1025 * MIB })), tenants: [{ name: "lab" }] });
  const all = await decisions(rig);
  assert.equal(said(all, labHooks()), ["create 0: ", "apply 6: ", "apply 6: "]);
  assert.match(said(all)[0]!, /it was decided with the policy hooks 'lab'/);
  const scaled = new Rig({ wasm: lab });
  const scale = { min: 1, max: 2 };
  assert.is(scaled.apply(spec(vmSpec("s", { tenant: "lab", memory: 8 * MIB, scale })))["ok"], true);
  scaled.wait(1200);
  scaled.ok("status");
  scaled.wait(200);
  const copies = (await decisions(scaled)).filter(({ record }) => record.object === "s");
  assert.equal(said(copies, labHooks()), ["policy 0: "]);
  class More extends Hooks {
    override name(): string {
      return "lab";
    }

    override scale(): number {
      return 7;
    }
  }
  assert.match(said(copies, new More())[0]!, /the host wanted 0 copies; it should have wanted 7/);
  class Other extends Hooks {
    override name(): string {
      return "lab";
    }
  }
  assert.equal(
    said(all, new Other()).map((line) => line.replace(/;.*/, "")),
    [
      "create 0: ",
      'apply 6: the host refused (6): tenant "lab": its 1 VM need 1027.7 MiB, it may have 300.0 MiB',
      'apply 6: the host refused (6): VM "big": a VM of tenant lab has at most 1 GiB',
    ],
  );
});

test("what tenants share is decided again, too", async () => {
  const parts = [
    { name: "red", cpus: "0-3" },
    { name: "blue", cpus: "2-5" },
  ];
  const lan = { networks: [{ network: "lan" }] };
  const cabled = hostSpec([vmSpec("a", { tenant: "red", ...lan }), vmSpec("b", { tenant: "blue", ...lan })]);
  const rules = [{ tenants: ["red", "blue"], share: ["cores", "caches"] }];
  const rig = new Rig({ cpus: 8, spec: { ...hostSpec([]), tenants: parts } });
  rig.request("create", { spec: vmSpec("c", { tenant: "blue" }) });
  rig.apply({ ...hostSpec([]), tenants: parts });
  rig.apply({ ...hostSpec([]), tenants: parts, rules });
  rig.request("create", { spec: vmSpec("c", { tenant: "blue" }) });
  rig.apply({ ...cabled, tenants: parts, rules });
  rig.apply({ ...hostSpec([]), tenants: parts, mitigations: { between: "all" } });
  const all = await decisions(rig);
  assert.equal(said(all), ["create 6: ", "apply 6: ", "apply 0: ", "create 0: ", "apply 6: ", "apply 6: "]);
  const facts = cborDecode(all[2]!.facts!)!;
  (facts["want"] as Message)["rules"] = [];
  const bytes = cborEncode(facts);
  const hash = createHash("sha256").update(bytes).digest();
  assert.match(
    replayRecord({ ...all[2]!.record, facts: [0, bytes.length, hash] }, bytes, new Hooks()).problem,
    /the host allowed; it should have refused \(6\): tenant "blue": CPU 2 is tenant "red"'s too/,
  );
});

test("what hooks wanted after an event", async () => {
  const rig = new Rig({ wasm: lab, spec: { ...hostSpec([vmSpec("a", { tenant: "lab" })]), tenants } });
  for (let n = 0; n < 2; n++) {
    rig.ok("console.write", { vm: "a", data: "ended\r" });
    rig.kernel.advance(1500);
  }
  const all = await decisions(rig);
  assert.equal(said(all, labHooks()), ["policy 0: ", "policy 0: "]);
  class Lazy extends Hooks {
    override name(): string {
      return "lab";
    }
  }
  assert.is(
    said(all, new Lazy())[1],
    "policy 0: the host did start of a: a lab VM crashed, start 2 of 3; it should have done nothing",
  );
});

test("facts that were changed are found, and decisions that should have been others", async () => {
  const rig = new Rig();
  decide(rig);
  const all = await decisions(rig);
  const forged = (n: number, change: (facts: Message) => void, record: Partial<AuditRecord> = {}): string => {
    const facts = cborDecode(all[n]!.facts!)!;
    change(facts);
    const bytes = cborEncode(facts);
    const hash = createHash("sha256").update(bytes).digest();
    const place: [number, number, Uint8Array] = [0, bytes.length, hash];
    return replayRecord({ ...all[n]!.record, ...record, facts: place }, bytes, new Hooks()).problem;
  };
  const bytes = Uint8Array.from(all[1]!.facts!);
  bytes[20]! ^= 1;
  assert.match(
    replayRecord(all[1]!.record, bytes, new Hooks()).problem,
    /not what the record has the hash of/,
  );
  const vm = (facts: Message): Message => facts["vm"] as Message;
  assert.match(
    forged(1, (facts) => void (vm(facts)["cost"] = 400 * MIB)),
    /^the host allowed; it should have refused \(6\): VM "c": tenant "lab"/,
  );
  assert.match(
    forged(2, (facts) => void (vm(facts)["cost"] = MIB)),
    /^the host refused \(6\): .*; it should have allowed$/,
  );
  const free = (facts: Message): unknown => ((facts["have"] as Message)["free"] = 0);
  assert.match(forged(0, free), /^the host allowed; it should have refused \(1\): VM ".": needs /);
  assert.match(
    forged(5, (facts) => void ((facts["have"] as Message)["name"] = "other")),
    /the steps of its plan are others/,
  );
  assert.match(
    forged(2, () => undefined, { code: 0 }),
    /it was refused .*, and the log says code 0/,
  );
  assert.match(
    forged(1, () => undefined, { kind: "apply" }),
    /it rests on facts for 'create'/,
  );
});

test("nothing but facts is read", () => {
  const rig = new Rig();
  decide(rig);
  for (const [at, size, from] of [
    [0, 2 ** 20, 0],
    [Protocol.FACTS_KEPT - 10, 100, 0],
    [2 ** 52, 100, 0],
    [0, 100, 100],
    [0, 100, 2 ** 52],
  ] as const)
    assert.is(rig.error("audit.facts", { at, size, from })["code"], 3);
  assert.is(rig.kernel.traps.length, 0);
});

test("facts that are changed on the host", async () => {
  const host = new ModelHost();
  await host.start();
  try {
    decide(host.rig);
    const good = await runCli(host, ["audit", "replay"]);
    assert.is(good.code, 0, good.stderr);
    assert.match(good.stderr, /^6 decisions of 6 made again: the same\n$/);
    const at = GPA_SHARED + 0x1000000 + (2 + Specification.MAX_VMS) * 2 * 0x1400;
    const facts = at + Protocol.EVENTS_KEPT * 256 + Protocol.AUDIT_KEPT * Protocol.AUDIT_RECORD;
    host.rig.kernel.domain("control").space.write(facts + 30, Buffer.from("X"));
    const bad = await runCli(host, ["audit", "replay"]);
    assert.is(bad.code, 7);
    assert.match(bad.stderr, /record \d+: what it rested on is not what the record has the hash of/);
    assert.match(bad.stderr, /1 decision of 6 cannot have been made so/);
    assert.is((await runCli(host, ["audit", "replay", "--hooks", "nothing.cjs"])).code, 2);
    const hooked = await runCli(host, ["audit", "replay", "--hooks", "build/control-lab.cjs", "--json"]);
    assert.is(JSON.parse(hooked.stdout).skipped.length, 5);
  } finally {
    await host.stop();
  }
});

test("what is kept is bounded, and large specifications are in it", async () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const free = rig.kernel.freePages;
  const random = new Random(5);
  const vms = (count: number): Message[] =>
    Array.from({ length: count }, (_, n) =>
      vmSpec(`vm-${n}`, { start: false, memory: 16 * MIB, cmdline: "x".repeat(random.below(1000)) }),
    );
  for (let n = 0; n < 40; n++) assert.is(rig.apply(spec(...vms(20 + random.below(8))))["ok"], true);
  const all = await decisions(rig);
  const lines = said(all);
  assert.ok(lines.length > 4 && lines.at(-1) === "apply 0: ");
  const gone = lines.filter((line) => /no longer kept/.test(line)).length;
  assert.ok(gone > 0 && gone < lines.length, `${gone} of ${lines.length}`);
  assert.ok(lines.every((line) => line === "apply 0: " || /no longer kept/.test(line)));
  assert.is(rig.apply(spec())["ok"], true);
  assert.is(rig.kernel.freePages, free);
});

test.run();
