// plinth audit and plinth audit verify, with the shipping control domain, and with logs that lie.

import { createHash } from "node:crypto";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readAudit } from "../../control/cli/audit";
import type { Client } from "../../control/cli/client";
import type { AuditPage } from "../../control/cli/results";
import { cborEncode } from "../../control/protocol/node/cbor";
import { ModelHost } from "./model-host";
import { runCli } from "./run-cli";

const test = suite<{ host: ModelHost }>("audit");

test.before.each(async (context) => {
  context.host = new ModelHost();
  await context.host.start();
});
test.after.each(async ({ host }) => host.stop());

test("lists and verifies, also against a hash that was noted", async ({ host }) => {
  assert.is((await runCli(host, ["start", "nobody"])).code, 3);
  const list = await runCli(host, ["audit"]);
  assert.match(list.stdout, /\n +\d+ .* cli +start +nobody: refused \(3\): there is no VM "nobody"\n$/);
  const verify = await runCli(host, ["audit", "verify"]);
  assert.is(verify.code, 0, verify.stderr);
  assert.match(verify.stdout, /^\d+:[0-9a-f]{64}\n$/);
  assert.match(verify.stderr, /the chain of \d+ records is whole/);
  const noted = verify.stdout.trim();
  await runCli(host, ["pause", "a"]);
  assert.is((await runCli(host, ["audit", "verify", "--head", noted])).code, 0);
  const other = noted.slice(0, -1) + (noted.endsWith("0") ? "1" : "0");
  const wrong = await runCli(host, ["audit", "verify", "--head", other]);
  assert.is(wrong.code, 7);
  assert.match(wrong.stderr, /its hash is not the one noted/);
  assert.is((await runCli(host, ["audit", "verify", "--head", "9999:" + "0".repeat(64)])).code, 7);
  assert.is((await runCli(host, ["audit", "verify", "--head", "x"])).code, 2);
  const all = (await runCli(host, ["audit", "--json"])).stdout.trim().split("\n");
  assert.equal(
    all.slice(-2).map((line) => JSON.parse(line).kind),
    ["pause", "vm-paused"],
  );
  const last = all.at(-1)!;
  assert.is((await runCli(host, ["audit", "--since", String(JSON.parse(last).seq)])).stdout, "");
  assert.is((await runCli(host, ["audit", "verfy"])).code, 2);
});

const bytes = (seq: number): Uint8Array =>
  cborEncode({ seq, at: 1, who: "host", kind: "k", object: "", text: "", code: 0 });
const next = (before: Uint8Array, record: Uint8Array): Uint8Array =>
  new Uint8Array(createHash("sha256").update(before).update(record).digest());

/** A log of three records in two pieces, which a test may spoil. */
function pages(): [AuditPage, AuditPage] {
  const zero = new Uint8Array(32);
  const one = next(zero, bytes(1));
  const two = next(one, bytes(2));
  const head = { seq: 3, hash: next(two, bytes(3)) };
  return [
    { from: 1, before: zero, records: [bytes(1), bytes(2)], head, next: 3 },
    { from: 3, before: two, records: [bytes(3)], head },
  ];
}

const read = (list: AuditPage[]): Promise<unknown> =>
  readAudit({ audit: async (from: number) => list[from < 3 ? 0 : 1]! } as unknown as Client);

test("every kind of lie is found", async () => {
  await read(pages());
  const lies: [string, (list: [AuditPage, AuditPage]) => void][] = [
    ["its hash is not what the host says", ([, page]) => (page.head = { seq: 3, hash: new Uint8Array(32) })],
    ["its hash is not what the host says", ([, page]) => (page.head.seq = 4)],
    ["hash before it is not that of", ([, page]) => (page.before = new Uint8Array(32))],
    ["no longer kept", ([, page]) => (page.from = 4)],
    ["its number is 5", ([page]) => (page.records[1] = bytes(5))],
    ["it is damaged", ([page]) => (page.records[1] = new Uint8Array())],
    ["its number is 3", ([, page]) => page.records.unshift(bytes(3))],
    ["its hash is not what the host says", ([, page]) => page.records.pop()],
  ];
  for (const [cause, lie] of lies) {
    const list = pages();
    lie(list);
    try {
      await read(list);
      assert.unreachable(cause);
    } catch (error) {
      assert.match((error as Error).message, cause);
      assert.is((error as { code: number }).code, 7);
    }
  }
});

test.run();
