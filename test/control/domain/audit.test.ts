// The audit log: who, what, verdict; its chain, computed again by node:crypto; bounded; kept over a restart.

import { createHash } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { GPA_SHARED } from "../../../control/gen/abi";
import { cborDecode, type Message } from "../../../control/protocol/node/cbor";
import { readAudit } from "../../../control/cli/audit";
import type { Client } from "../../../control/cli/client";
import { crc32c } from "../../../control/protocol/node/crc32c";
import { frameEncode } from "../../../control/protocol/node/frame";
import { Protocol, Specification } from "../../../control/protocol/schema";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

/** The whole log, with each link of the chain checked. */
function audit(rig: Rig): Message[] {
  const records: Message[] = [];
  let before: Uint8Array | undefined;
  for (let from = 0; ;) {
    const page = rig.ok("audit", { from });
    if (before) assert.equal(page["before"], before);
    before ??= page["before"] as Uint8Array;
    for (const bytes of page["records"] as Uint8Array[]) {
      before = new Uint8Array(createHash("sha256").update(before).update(bytes).digest());
      records.push(cborDecode(bytes)!);
    }
    if (page["next"] !== undefined) {
      from = Number(page["next"]);
      continue;
    }
    const head = page["head"] as Message;
    assert.equal(head["hash"], before);
    assert.is(head["seq"], records.at(-1)?.["seq"] ?? Number(page["from"]) - 1);
    return records;
  }
}

const text = (record: Message): string =>
  `${record["who"]} ${record["kind"]} ${record["object"]}: ${record["code"]} ${record["text"]}`;

test("commands of programs and people with their verdict, and what the host does by itself", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { protected: true })]) });
  rig.ok("create", { spec: vmSpec("b", { memory: 16 * MIB }) });
  rig.error("stop", { vm: "a", force: true });
  rig.command("rm b --force");
  rig.command("pause nobody");
  rig.command("ls");
  rig.ok("ls");
  const lines = audit(rig).map(text);
  assert.equal(lines.slice(0, 3), [
    "host control-started : 0 control domain started",
    "host vm-created a: 0 created",
    "host vm-started a: 0 started",
  ]);
  assert.equal(
    lines.filter((line) => !line.startsWith("host")),
    [
      "cli create b: 0 done",
      'cli stop a: 6 VM "a" is protected',
      "shell rm b: 0 done, by force",
      'shell pause nobody: 3 there is no VM "nobody"',
    ],
  );
  assert.match(
    rig.command("audit 3"),
    /^ +\d+\.\d{3} {2}shell {1}rm +b: done, by force\n.*host {2}vm-removed +b: removed\n.*refused: there is no VM "nobody"\nhash of record \d+: [0-9a-f]{64}\n$/,
  );
});

test("a text that is too long in UTF-8 is left out, not the record", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  rig.error("start", { vm: "\u6f22".repeat(80) });
  rig.error("start", { vm: "x".repeat(80) });
  const [first, second] = audit(rig).slice(-2);
  assert.is(first!["code"], 3);
  assert.is(first!["text"], "");
  assert.is(second!["object"], `${"x".repeat(30)}...`);
  assert.match(String(second!["text"]), /^there is no VM "x+\.\.\."$/);
});

test("numbers go up by one, and the first hash is zeros", () => {
  const rig = new Rig();
  assert.equal(rig.ok("audit")["before"], new Uint8Array(32));
  const records = audit(rig);
  assert.equal(
    records.map((record) => record["seq"]),
    records.map((_, n) => n + 1),
  );
});

test("old records go into the hash before the oldest", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const pages = rig.kernel.freePages;
  const hashes = new Map<number, Uint8Array>();
  for (let n = 0; n < 400; n++) {
    rig.error("start", { vm: `nobody-${n}` });
    if (n % 50 !== 0) continue;
    const { seq, hash } = rig.ok("audit", { from: 2 ** 40 })["head"] as Message;
    hashes.set(Number(seq), hash as Uint8Array);
  }
  const records = audit(rig);
  assert.is(records.length, Protocol.AUDIT_KEPT);
  assert.is(records.at(-1)!["seq"], 401);
  assert.is(rig.kernel.freePages, pages);
  // What was noted on the way is in the chain.
  for (const [seq, hash] of hashes)
    if (seq >= 401 - Protocol.AUDIT_KEPT) assert.equal(rig.ok("audit", { from: seq + 1 })["before"], hash);
});

test("a burst without time for hashes", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  for (let n = 0; n < 300; n++)
    rig.kernel.serial.write(frameEncode({ id: 5000 + n, op: "start", vm: "nobody" }));
  rig.settle();
  assert.ok(audit(rig).length >= 50);
});

test("what happened right before a restart is in the log once", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  rig.kernel.serial.write(frameEncode({ id: 9001, op: "create", spec: vmSpec("q") }));
  rig.kernel.serial.write(frameEncode({ id: 9002, op: "test.trap" }));
  rig.settle();
  rig.settle();
  assert.is(rig.ok("status")["controlRestarts"], 1);
  const about = audit(rig).filter((record) => record["object"] === "q");
  assert.equal(
    about.slice(0, 3).map((record) => record["kind"]),
    ["create", "vm-created", "vm-started"],
  );
  assert.is(about.filter((record) => record["kind"] === "vm-created").length, 1);
});

test("the log goes on after a restart", () => {
  const rig = new Rig();
  const before = audit(rig);
  for (let n = 0; n < 3; n++) {
    rig.error("start", { vm: "nobody" });
    rig.kernel.serial.write(frameEncode({ id: 9000 + n, op: "test.trap" }));
    rig.settle();
  }
  const after = audit(rig);
  assert.equal(after.slice(0, before.length), before);
  assert.is(after.filter((record) => record["kind"] === "control-restarted").length, 3);
  assert.is(after.filter((record) => record["kind"] === "start").length, 3);
  for (let n = 0; n < 300; n++) rig.error("start", { vm: "nobody" });
  rig.kernel.serial.write(frameEncode({ id: 9999, op: "test.trap" }));
  rig.settle();
  assert.ok(audit(rig).length >= Protocol.AUDIT_KEPT - 1);
});

/** Where record n is in the stash. */
const place = (n: number): number =>
  GPA_SHARED +
  0x1000000 +
  (2 + Specification.MAX_VMS) * 2 * 0x1400 +
  Protocol.EVENTS_KEPT * 256 +
  n * Protocol.AUDIT_RECORD;

test("a record that was changed, even with its checksum, is found", async () => {
  for (const mended of [false, true]) {
    const rig = new Rig();
    const client = { audit: async (from: number) => rig.ok("audit", { from }) } as unknown as Client;
    await readAudit(client);
    const { space } = rig.kernel.domain("control");
    const length = new DataView(space.read(place(2), 4).buffer).getUint32(0, true);
    const cbor = Buffer.from(space.read(place(2) + 48, length));
    cbor.write("X", cbor.indexOf("created") + 1);
    space.write(place(2) + 48, cbor);
    const sum = Buffer.alloc(4);
    sum.writeUInt32LE(crc32c(cbor));
    if (mended) space.write(place(2) + 4, sum);
    const cause = mended ? /its hash is not what the host says/ : /record 2: it is damaged/;
    const problem = await readAudit(client).then(
      () => "",
      (error: Error) => error.message,
    );
    assert.match(problem, cause);
  }
});

test("a stash that is spoilt gives an empty log or a part of it, and the host goes on", () => {
  const rig = new Rig();
  rig.kernel.domain("control").space.write(place(0), new Uint8Array(4 * Protocol.AUDIT_RECORD).fill(0x5a));
  rig.kernel.serial.write(frameEncode({ id: 9999, op: "test.trap" }));
  rig.settle();
  const records = audit(rig);
  assert.ok(records.length > 0);
  assert.is(rig.state("a"), "running");
});

test.run();
