// plinth snapshot, against a fake host: every command, transfers that go on, keys, policy.

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as schema from "../../control/protocol/schema";
import { FakeHost } from "./fake-host";
import { PAGE } from "./fake-snapshots";
import { Random } from "./random";
import { done, type Result, runCli, startCli, until } from "./run-cli";

interface World {
  host: FakeHost;
  folder: string;
  /** Runs `plinth snapshot ...` with a home of its own. */
  plinth: (line: string, home?: string) => Promise<Result>;
  file: (name: string) => string;
}

const test = suite<World>("snapshots");

test.before.each(async (context) => {
  const host = (context.host = await FakeHost.start());
  context.folder = mkdtempSync(join(tmpdir(), "plinth-snapshot-"));
  context.file = (name) => join(context.folder, name);
  context.plinth = (line, home = "home") =>
    runCli(host, ["snapshot", ...line.split(" ")], { env: { HOME: join(context.folder, home) } });
  const random = new Random(7);
  const memory = Array.from({ length: 40 }, (_, n) => (n % 4 === 1 ? `memory ${n}` : ""));
  host.snapshots.addVm("a", {
    memory: [...memory, random.bytes(PAGE), "memory 5"],
    model: ["model 0", "", "model 2"],
    state: ["the state"],
    image: ["an image"],
  });
});
test.after.each(async ({ host, folder }) => {
  await host.stop();
  rmSync(folder, { recursive: true });
});

async function refused(result: Promise<Result>, code: number, why: RegExp): Promise<void> {
  const ended = await result;
  assert.is(ended.code, code, `${ended.stdout}${ended.stderr}`);
  assert.match(ended.stderr, why);
}

test("on the host: create, ls, show, clone, restore, rm", async ({ host, plinth }) => {
  const made = await done(plinth("create a --note works"));
  assert.match(made.stderr, /^a-1: 168 KiB of a are kept\n$/);
  await done(plinth("create a second"));
  await done(plinth("create a third"));
  await refused(plinth("create a second"), 4, /there is a snapshot second/);
  await refused(plinth("create b"), 3, /there is no VM 'b'/);
  const { stdout } = await done(plinth("ls"));
  assert.match(
    stdout,
    /^NAME +VM +CREATED +MEMORY +OWN +STATE +NOTE\na-1 +a +2026-09-\d\d [0-9:]+Z +168 KiB +0 B +complete +works\n/,
  );
  assert.is(stdout.split("\n").length, 5);
  assert.is(JSON.parse((await done(plinth("ls a --json"))).stdout).snapshots.length, 3);
  const shown = (await done(plinth("show a-1"))).stdout;
  assert.match(shown, /\nvendor +intel\n/);
  assert.match(shown, /\nobjects +\[\{kind: memory, pages: 42\}, /);
  assert.is(JSON.parse((await done(plinth("show a-1 --json"))).stdout).tscHz, 2_400_000_000);
  assert.match((await done(plinth("clone a-1 b --paused"))).stderr, /^b: paused, goes on from a-1\n$/);
  host.snapshots.poke("a", "memory", 0, "changed");
  assert.match((await done(plinth("restore a-1 --force"))).stderr, /^a: running, goes on from a-1\n$/);
  assert.is(host.requests.find(({ op }) => op === schema.OP_SNAPSHOT_RESTORE)!.force, true);
  assert.match((await done(plinth("rm second third"))).stderr, /second: removed\nthird: removed/);
  await refused(plinth("show second"), 3, /there is no snapshot/);
  await refused(plinth("restore second"), 3, /there is no snapshot/);
});

test("into the repository and back, without what is zero or known", async ({ host, plinth }) => {
  await done(plinth("create a"));
  const out = await done(plinth("export a-1"));
  // 10 + 1 + 1 pages of memory, one of them twice, 2 of the model, state and image.
  assert.match(
    out.stderr,
    /^a-1 is in .*\/home\/.local\/share\/plinth\/snapshots: 60 KiB were sent of 64 KiB of data\n$/,
  );
  assert.is(host.snapshots.asked[schema.OP_SNAPSHOT_READ], 15);
  assert.match((await done(plinth("export a-1"))).stderr, /is in .* already/);
  assert.is(host.snapshots.asked[schema.OP_SNAPSHOT_READ], 15);
  host.snapshots.poke("a", "memory", 3, "new");
  await done(plinth("create a"));
  assert.match((await done(plinth("export a-2"))).stderr, /4 KiB were sent of 68 KiB of data/);
  assert.match(
    (await done(plinth("ls --local"))).stdout,
    /^NAME +VM +CREATED +DATA +BASE\na-1 +a .* 64 KiB\na-2 .* 68 KiB\n$/,
  );
  assert.match((await done(plinth("show a-1 --local"))).stdout, /signed by +ed25519:[0-9a-f]{64} \(you\)\n/);

  const before = host.snapshots.bytes("a-1", "memory");
  host.snapshots.all.clear();
  await refused(
    plinth("restore a-1"),
    3,
    /in the repository, not on the host\nnext: plinth snapshot import a-1/,
  );
  const back = await done(plinth("import a-1"));
  assert.match(back.stderr, /^a-1 is on the host, 60 KiB were sent; next: plinth snapshot restore a-1/);
  assert.equal(host.snapshots.bytes("a-1", "memory"), before);
  assert.ok(!host.requests.some(({ op, object }) => op === schema.OP_SNAPSHOT_WRITE && object === "image"));
  assert.match((await done(plinth("import a-1"))).stderr, /is on the host already/);
  assert.match((await done(plinth("import a-1 --as other"))).stderr, /^other is on the host/);
  host.snapshots.model = "cd".repeat(32);
  await done(plinth("import a-1 --as third"));
  assert.equal(host.snapshots.bytes("third", "image").subarray(0, 8), Buffer.from("an image"));
});

test("one file: full, and with a base", async ({ host, plinth, file }) => {
  await done(plinth("create a"));
  const full = file("full.plinth");
  await done(plinth(`export a-1 ${full}`));
  host.snapshots.poke("a", "memory", 3, "new");
  host.snapshots.poke("a", "memory", 1, "");
  await done(plinth("create a"));
  host.snapshots.asked[schema.OP_SNAPSHOT_HASH] = 0;
  const little = file("little.plinth");
  const json = JSON.parse((await done(plinth(`export a-2 ${little} --base a-1 --json`))).stdout);
  assert.is(json.sent, PAGE);
  assert.is(json.base, "a-1");
  assert.is(host.snapshots.asked[schema.OP_SNAPSHOT_HASH], 2);
  assert.ok(statSync(little).size < statSync(full).size);
  assert.is(json.size, statSync(little).size);
  await done(plinth(`verify ${full}`));
  await done(plinth(`verify ${little}`));
  await refused(
    plinth("rm a-1 --local"),
    4,
    /a-1 stays: a-2 is based on it\nnext: plinth snapshot rm a-2 --local/,
  );

  // Somebody else, who trusts the first.
  const { key } = JSON.parse((await done(plinth("keys --json"))).stdout);
  await refused(
    plinth(`import ${full}`, "other"),
    7,
    new RegExp(`is signed by ${key}, whom you do not trust\nnext: plinth snapshot keys --trust ${key}`),
  );
  await refused(
    plinth(`import ${little} --trust ${key}`, "other"),
    7,
    /is based on snapshot a-1 \([0-9a-f]{12}\), which is not in/,
  );
  await done(plinth(`keys --trust ${key}`, "other"));
  const wanted = ["memory", "model", "state"].map((kind) => host.snapshots.bytes("a-2", kind));
  host.snapshots.all.clear();
  await done(plinth(`import ${full} --local`, "other"));
  await done(plinth(`import ${full}`, "other"));
  host.snapshots.asked[schema.OP_SNAPSHOT_WRITE] = 0;
  await done(plinth(`import ${little}`, "other"));
  // The host has the base: two pages differ.
  assert.is(host.snapshots.asked[schema.OP_SNAPSHOT_WRITE], 2);
  assert.equal(
    ["memory", "model", "state"].map((kind) => host.snapshots.bytes("a-2", kind)),
    wanted,
  );
  assert.is(host.snapshots.all.get("a-2")!.base, "a-1");
  // Without the base on the host, all of it is sent.
  host.snapshots.all.clear();
  await done(plinth(`import ${little}`, "other"));
  assert.equal(
    ["memory", "model", "state"].map((kind) => host.snapshots.bytes("a-2", kind)),
    wanted,
  );
});

test("encrypted, with a key and with a passphrase", async ({ host, plinth, file }) => {
  await done(plinth("create a"));
  const keyFile = file("k");
  assert.match((await done(plinth(`keys --make ${keyFile}`))).stderr, /a new key/);
  assert.is(statSync(keyFile).mode & 0o777, 0o600);
  await refused(plinth(`keys --make ${keyFile}`), 2, /cannot be made/);
  const sealed = file("sealed.plinth");
  await done(plinth(`export a-1 ${sealed} --key ${keyFile}`));
  const all = [sealed, ...everyFile(file("home/.local"))].map((path) =>
    readFileSync(path).toString("latin1"),
  );
  for (const text of all) assert.not.match(text, /memory 1|quiet|generation|tscHz/);
  await done(plinth(`verify --key ${keyFile}`));
  await done(plinth(`verify ${sealed} --key ${keyFile}`));
  await refused(plinth(`verify ${sealed}`), 7, /is encrypted: give --key FILE/);
  await refused(plinth("import a-1"), 7, /is encrypted/);
  await done(plinth(`keys --make ${keyFile}2`));
  await refused(plinth(`verify ${sealed} --key ${keyFile}2`), 7, /is encrypted with another key/);
  host.snapshots.all.clear();
  await done(plinth(`import ${sealed} --key ${keyFile}`));

  const [phrase, wrong] = [file("p"), file("w")];
  writeFileSync(phrase, "correct horse battery staple\n");
  writeFileSync(wrong, "wrong horse\n");
  const second = file("second.plinth");
  await done(plinth(`export a-1 ${second} --passphrase-file ${phrase} --repo ${file("r")}`));
  await done(plinth(`verify ${second} --passphrase-file ${phrase}`));
  await refused(
    plinth(`verify ${second} --passphrase-file ${wrong}`),
    7,
    /another key: give its own with --passphrase-file/,
  );
  await refused(plinth(`verify ${second} --key ${keyFile}`), 7, /give --passphrase-file/);
  writeFileSync(wrong, "short\n");
  await refused(plinth(`verify ${second} --passphrase-file ${wrong}`), 2, /less than 8 characters/);
});

test("no salt is there twice", async ({ plinth, file }) => {
  await done(plinth("create a"));
  await done(plinth(`keys --make ${file("k")}`));
  await done(plinth(`export a-1 ${file("1.plinth")} --key ${file("k")}`));
  await done(plinth(`export a-1 ${file("2.plinth")} --local --key ${file("k")}`));
  const [one, two] = [readFileSync(file("1.plinth")), readFileSync(file("2.plinth"))];
  assert.is(one.length, two.length);
  let equal = 0;
  for (let at = 200; at < one.length; at++) if (one[at] === two[at]) equal++;
  assert.ok(equal < one.length / 50, `${equal} of ${one.length}`);
});

test("Ctrl-C, a lost host and a killed program: the same command goes on", async ({
  host,
  plinth,
  file,
  folder,
}) => {
  host.snapshots.addVm("big", { memory: Array.from({ length: 200 }, (_, n) => `page ${n}`), state: ["s"] });
  await done(plinth("create big"));
  const stopAfter = (op: string, count: number, stop: () => void): void => {
    let left = count;
    host.snapshots.onAsk = (asked) => {
      if (asked === op && --left === 0) stop();
    };
  };
  stopAfter(schema.OP_SNAPSHOT_READ, 60, () => process.emit("SIGINT"));
  await refused(
    plinth("export big-1"),
    130,
    /interrupted: \d+ KiB of 804 KiB were read and are kept\nnext: the same command goes on from there: plinth snapshot export big-1/,
  );
  const first = host.snapshots.asked[schema.OP_SNAPSHOT_READ]!;
  assert.ok(first >= 60 && first < 70);
  const hashes = host.snapshots.asked[schema.OP_SNAPSHOT_HASH]!;
  // The connection is cut.
  stopAfter(schema.OP_SNAPSHOT_READ, 50, () => host.hangUp());
  await refused(plinth("export big-1"), 5, /lost the connection/);
  assert.is(host.snapshots.asked[schema.OP_SNAPSHOT_HASH], hashes, "no hash is asked twice");
  host.snapshots.onAsk = () => undefined;
  await done(plinth("export big-1"));
  assert.ok(
    host.snapshots.asked[schema.OP_SNAPSHOT_READ]! <= 201 + 3 * 4,
    "no page is asked twice but those on their way",
  );
  assert.is(host.snapshots.asked[schema.OP_SNAPSHOT_HASH], hashes);
  assert.equal(readdirSync(file("home/.local/share/plinth/snapshots/partial")), []);

  // A file that its writer could not end has all its whole groups.
  const repo = file("cut");
  await done(plinth(`export big-1 --repo ${repo}`));
  const pack = join(repo, "pages", readdirSync(join(repo, "pages"))[0]!);
  writeFileSync(`${pack}.part`, readFileSync(pack).subarray(0, statSync(pack).size / 2));
  writeFileSync(join(repo, "pages", "empty.pages.part"), "");
  rmSync(pack);
  rmSync(join(repo, "snapshots"), { recursive: true });
  const asked = host.snapshots.asked[schema.OP_SNAPSHOT_READ]!;
  await done(plinth(`export big-1 --repo ${repo}`));
  const again = host.snapshots.asked[schema.OP_SNAPSHOT_READ]! - asked;
  assert.ok(again > 50 && again < 150, `${again} pages were read again`);
  await refused(plinth(`verify --repo ${repo} nothing`), 3, /no snapshot/);
  await done(plinth(`verify big-1 --repo ${repo}`));
  await done(plinth(`verify --repo ${repo}`));

  const memory = host.snapshots.bytes("big-1", "memory");
  host.snapshots.all.clear();
  stopAfter(schema.OP_SNAPSHOT_WRITE, 60, () => process.emit("SIGINT"));
  await refused(
    plinth("import big-1"),
    130,
    /interrupted: 2[0-9]{2} KiB of 800 KiB of memory are on the host\nnext: .* plinth snapshot import big-1/,
  );
  assert.is(host.snapshots.all.get("big-1")!.state, schema.STATE_INCOMING);
  await refused(plinth("restore big-1"), 4, /incoming/);
  await refused(plinth("export big-1 --as z"), 4, /big-1 has not come whole to the host/);
  host.snapshots.asked[schema.OP_SNAPSHOT_WRITE] = 0;
  host.snapshots.onAsk = () => undefined;
  await done(plinth("import big-1"));
  // Those that were on their way when it was interrupted are not written again.
  const written = host.snapshots.asked[schema.OP_SNAPSHOT_WRITE]!;
  assert.ok(written > 130 && written <= 141, `${written} pages were written again`);
  assert.equal(host.snapshots.bytes("big-1", "memory"), memory);
  assert.ok(folder);
});

test("an import on a base goes on, also when the base is gone", async ({ host, plinth }) => {
  await done(plinth("create a"));
  await done(plinth("export a-1"));
  for (const page of [0, 1, 2, 4, 5])
    host.snapshots.poke("a", "memory", page, page === 5 ? "" : `new ${page}`);
  await done(plinth("create a"));
  await done(plinth("export a-2 --base a-1"));
  const wanted = host.snapshots.bytes("a-2", "memory");
  for (const isGone of [false, true]) {
    host.snapshots.all.delete("a-2");
    let left = 3;
    host.snapshots.onAsk = (op) => {
      if (op === schema.OP_SNAPSHOT_WRITE && --left === 0) process.emit("SIGINT");
    };
    await refused(plinth("import a-2"), 130, /(4|8|12) KiB of 20 KiB of memory are on the host/);
    host.snapshots.onAsk = () => undefined;
    assert.is(host.snapshots.all.get("a-2")!.base, "a-1");
    if (isGone) host.snapshots.all.delete("a-1");
    host.snapshots.asked[schema.OP_SNAPSHOT_WRITE] = 0;
    await done(plinth("import a-2"));
    const again = host.snapshots.asked[schema.OP_SNAPSHOT_WRITE]!;
    assert.ok(again >= 1 && again <= 2, `${again} pages were written again`);
    assert.equal(host.snapshots.bytes("a-2", "memory"), wanted);
  }
});

test("progress has a rate and the time left", async ({ host, folder }) => {
  host.faults.takesMs = { [schema.OP_SNAPSHOT_READ]: 40 };
  host.snapshots.addVm("big", { memory: Array.from({ length: 60 }, (_, n) => `page ${n}`) });
  await runCli(host, ["snapshot", "create", "big"]);
  const running = startCli(host, ["snapshot", "export", "big-1", "--progress", "json"], {
    env: { HOME: folder },
  });
  await until(() => running.stderr().includes("secondsLeft"), "progress");
  process.emit("SIGINT");
  assert.is((await running.result).code, 130);
  const record = JSON.parse(running.stderr().split("\n")[0]!);
  assert.is(record.progress, "reading big-1");
  assert.is(record.total, 60 * PAGE);
});

test("a host that does not tell the truth", async ({ host, plinth }) => {
  await done(plinth("create a"));
  for (const reply of [
    { ranges: [0, 1] },
    { ranges: [0, 1], next: 0 },
    { ranges: [0, 43], next: 42 },
    { ranges: [3, 2, 4, 1], next: 42 },
    { ranges: [0], next: 42 },
    { ranges: [0, 0], next: 42 },
    { ranges: "all", next: 42 },
    { ranges: [0, 5], next: 4 },
    { ranges: [], next: 43 },
  ]) {
    host.snapshots.pagesReply = reply;
    await refused(plinth("export a-1"), 7, /the host has answered bad ranges of pages of memory/);
  }
  host.snapshots.pagesReply = undefined;
  host.snapshots.liesAbout = 5;
  await refused(plinth("export a-1"), 7, /page 5 of memory is not what its hash says/);
  host.snapshots.liesAbout = -1;
  const { document } = host.snapshots.all.get("a-1")!;
  for (const [change, why] of [
    [{ format: 2 }, /says format 2; this plinth knows format 1/],
    [{ name: "../../x" }, /bad field 'name'/],
    [{ generation: new Uint8Array(3) }, /bad field 'generation'/],
    [{ objects: [] }, /bad field 'objects'/],
    [{ objects: [{ kind: "memory", pages: 2 ** 40 }] }, /bad number of pages of memory/],
    [
      {
        objects: [
          { kind: "a", pages: 1 },
          { kind: "a", pages: 1 },
        ],
      },
      /has an object twice/,
    ],
    [{ objects: [{ kind: "../a", pages: 1 }] }, /an object of a bad kind/],
    [{ cpuid: "x" }, /bad field 'cpuid'/],
    [{ created: -1 }, /bad field 'created'/],
  ] as const) {
    host.snapshots.all.get("a-1")!.document = { ...document, ...(change as object) };
    await refused(plinth("export a-1"), 7, why);
  }
});

test("names: taken ones, bad ones, other ones", async ({ host, plinth }) => {
  await done(plinth("create a x"));
  await done(plinth("export x"));
  host.snapshots.all.clear();
  await done(plinth("create a x"));
  await refused(
    plinth("export x"),
    4,
    /has another snapshot of the name x\nnext: plinth snapshot export x --as NEWNAME/,
  );
  await done(plinth("export x --as y"));
  assert.match((await done(plinth("import y --as x"))).stderr, /^x is on the host already/);
  await refused(
    plinth("import x"),
    4,
    /the host has another snapshot of the name x\nnext: plinth snapshot import x --as NEWNAME/,
  );
  await refused(plinth("export x --as ../z"), 2, /no name of a snapshot/);
  await refused(plinth("import ../z"), 7, /cannot be read/);
  await refused(plinth("import z"), 3, /there is no snapshot 'z' in .*\nnext: plinth snapshot ls --local/);
  await refused(plinth("export x --local"), 2, /needs a FILE/);
});

test("going back can be forbidden", async ({ host, plinth, file }) => {
  await done(plinth("create a"));
  await done(plinth("create a"));
  await done(plinth("export a-1"));
  await done(plinth("export a-2"));
  host.snapshots.all.clear();
  await done(plinth("import a-1 --no-rollback"));
  await done(plinth("import a-2 --no-rollback"));
  host.snapshots.all.delete("a-1");
  const asked = host.requests.length;
  await refused(
    plinth("import a-1 --no-rollback"),
    7,
    /a-1 would take a back to 2026-.*: a-2 of .* was used before, and the policy forbids/,
  );
  assert.is(host.requests.length, asked, "the host is not even asked");
  await done(plinth("import a-1"));
  writeFileSync(file("home/.config/plinth/snapshot.json"), '{"noRollback": true}');
  await refused(plinth("restore a-1"), 7, /the policy forbids to go back\nnext: give --allow-rollback/);
  await done(plinth("restore a-1 --allow-rollback"));
  await done(plinth("restore a-2"));
  await refused(plinth("restore a-2 --no-rollback --allow-rollback"), 2, /only one/);
});

test("the verdict names what is missing, before anything is sent", async ({ host, plinth }) => {
  await done(plinth("create a"));
  await done(plinth("export a-1"));
  const { stdout } = await done(plinth("verify a-1 --host"));
  assert.match(stdout, /snapshot +a-1 of a, 64 KiB of data, all as it was\n/);
  assert.match(
    stdout,
    /needs features +\[ept\]\nneeds tscHz +2400000000\n.*\nneeds memory +\d+\nhost +has all that it needs\n$/,
  );
  host.snapshots.all.clear();
  host.snapshots.vendor = schema.VENDOR_AMD;
  await refused(plinth("verify a-1 --host"), 7, /cannot go on here: it needs a CPU of intel/);
  await refused(plinth("import a-1"), 7, /a-1 cannot go on here: it needs a CPU of intel/);
  host.snapshots.vendor = schema.VENDOR_INTEL;
  host.snapshots.features = [];
  await refused(plinth("import a-1"), 7, /it needs ept/);
  assert.is(host.snapshots.asked[schema.OP_SNAPSHOT_WRITE], undefined);
});

test("diff: on the host, in the repository, of files", async ({ host, plinth, file }) => {
  await done(plinth("create a"));
  for (const page of [0, 1, 2]) host.snapshots.poke("a", "memory", page, "new");
  host.snapshots.poke("a", "state", 0, "newer");
  await done(plinth("create a"));
  const wanted =
    /^OBJECT +PAGES +OF +BYTES\nmemory +3 +42 +12 KiB\nmodel +0 +3 +0 B\nstate +1 +1 +4 KiB\nimage +0 +1 +0 B\ncreated: \d+ -> \d+\n/;
  assert.match((await done(plinth("diff a-1 a-2"))).stdout, wanted);
  await done(plinth(`export a-1 ${file("1.plinth")}`));
  await done(plinth("export a-2"));
  assert.match((await done(plinth("diff a-1 a-2 --local"))).stdout, wanted);
  assert.match((await done(plinth(`diff ${file("1.plinth")} a-2`))).stdout, wanted);
  const { objects, fields } = JSON.parse((await done(plinth("diff a-1 a-2 --local --json"))).stdout);
  assert.is(objects[0].bytes, 3 * PAGE);
  assert.equal(
    fields.map(({ field }: { field: string }) => field),
    ["created", "generation", "name"],
  );
});

test("snapshots of a VM that writes at random, each on the one before: all come back as they were", async ({
  host,
  plinth,
}) => {
  const random = new Random(23);
  const fill = (): string => (random.below(3) === 0 ? "" : `page ${random.below(40)}`);
  host.snapshots.addVm("r", {
    memory: Array.from({ length: 90 }, fill),
    model: Array.from({ length: 7 }, fill),
  });
  const kept = new Map<string, Buffer[]>();
  const bytes = (name: string): Buffer[] =>
    ["memory", "model"].map((kind) => host.snapshots.bytes(name, kind));
  for (let n = 1; n <= 8; n++) {
    for (let count = random.below(30); count > 0; count--)
      host.snapshots.poke("r", random.below(4) === 0 ? "model" : "memory", random.below(7), fill());
    await done(plinth(`create r r-${n}`));
    await done(
      plinth(`export r-${n}${n > 1 && random.below(3) > 0 ? ` --base r-${1 + random.below(n - 1)}` : ""}`),
    );
    kept.set(`r-${n}`, bytes(`r-${n}`));
    if (random.below(3) === 0) host.snapshots.all.delete(`r-${1 + random.below(n)}`);
  }
  await done(plinth("verify"));
  for (let round = 0; round < 2; round++) {
    for (const name of kept.keys()) {
      if (random.below(2) === 0) host.snapshots.all.delete(name);
      await done(plinth(`import ${name}`));
      assert.equal(bytes(name), kept.get(name), name);
    }
    host.snapshots.all.clear();
  }
});

test("rm --local frees what no other snapshot has", async ({ host, plinth, file }) => {
  const random = new Random(3);
  host.snapshots.addVm("r", { memory: Array.from({ length: 20 }, () => random.bytes(PAGE)) });
  await done(plinth("create r"));
  await done(plinth("export r-1"));
  host.snapshots.poke("r", "memory", 2, random.bytes(PAGE));
  await done(plinth("create r"));
  await done(plinth("export r-2"));
  const pages = (): number =>
    everyFile(file("home/.local/share/plinth/snapshots/pages")).reduce(
      (sum, path) => sum + statSync(path).size,
      0,
    );
  const before = pages();
  const rest = [
    "partial/old",
    "snapshots/old.plinth.12.part",
    "pages/00.pages.part",
    "partial/new",
    "pages/11.pages.part",
  ];
  for (const name of rest) {
    const path = file(`home/.local/share/plinth/snapshots/${name}`);
    writeFileSync(
      path,
      readFileSync(everyFile(file("home/.local/share/plinth/snapshots/pages"))[0]!).subarray(0, 9000),
    );
    if (!/new|11/.test(name)) utimesSync(path, 1, 1);
  }
  await done(plinth("rm r-1 --local"));
  await done(plinth("verify"));
  const left = everyFile(file("home")).filter((path) => rest.some((name) => path.endsWith(name)));
  assert.is(left.length, 2, "what is older than a day goes");
  for (const path of left) rmSync(path);
  assert.ok(pages() <= before && pages() > 20 * PAGE);
  await done(plinth("rm r-2 --local"));
  assert.is(pages(), 0);
});

test("keys: trust by text and PEM, bad ones", async ({ plinth, file }) => {
  const { stdout } = await done(plinth("keys --pem", "other"));
  writeFileSync(file("other.pem"), stdout);
  const { key } = JSON.parse((await done(plinth("keys --json", "other"))).stdout);
  assert.is(
    (await done(plinth(`keys --trust ${file("other.pem")}`))).stderr,
    `${key} is trusted from now on\n`,
  );
  assert.match(
    (await done(plinth("keys"))).stdout,
    new RegExp(`^yours +ed25519:[0-9a-f]{64}\ntrusted +${key}\n$`),
  );
  assert.is(statSync(file("home/.config/plinth/snapshot-key.pem")).mode & 0o777, 0o600);
  await refused(plinth("keys --trust ed25519:12"), 2, /no Ed25519 public key/);
  await refused(plinth(`keys --trust ${file("none")}`), 2, /there is no file/);
  writeFileSync(file("bad.pem"), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
  await refused(plinth(`keys --trust ${file("bad.pem")}`), 2, /no Ed25519 public key/);
});

function everyFile(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? everyFile(path) : [path];
  });
}

test.run();
