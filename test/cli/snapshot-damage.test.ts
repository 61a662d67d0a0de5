// Files of snapshots that were changed: each byte in turn, cut at each length, put together anew, signed by others.

import { createHash } from "node:crypto";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cborDecode, type Message } from "../../control/protocol/node/cbor";
import { encode, RecordReader, RecordType, RecordWriter } from "../../control/cli/snapshot/record-file";
import { type Manifest, openManifest } from "../../control/cli/snapshot/manifest";
import { writeManifest } from "../../control/cli/snapshot/manifest";
import { GroupWriter } from "../../control/cli/snapshot/pack";
import { PageMap, sha256 } from "../../control/cli/snapshot/page-map";
import { Repository } from "../../control/cli/snapshot/repository";
import { Secret } from "../../control/cli/snapshot/seal";
import { Keys } from "../../control/cli/snapshot/signing";
import { checkPages, openSource } from "../../control/cli/snapshot/source";
import { PlinthError } from "../../control/cli/errors";
import { FakeHost } from "./fake-host";
import { PAGE } from "./fake-snapshots";
import { Random } from "./random";
import { type Result, runCli } from "./run-cli";

interface World {
  folder: string;
  file: (name: string) => string;
  env: Record<string, string>;
  keys: Keys;
  repository: Repository;
  /** Runs a command on a host that is not there: what it refuses before, it refuses without it. */
  plinth: (line: string) => Promise<Result>;
}

const test = suite<World>("damaged snapshots");
const SALT = new Uint8Array(32);
const OBJECTS = { memory: ["one", "", "two", "one", ""], state: ["three"] };

test.before.each((context) => {
  const folder = (context.folder = mkdtempSync(join(tmpdir(), "plinth-damage-")));
  const env = (context.env = { HOME: folder });
  context.file = (name) => join(folder, name);
  context.keys = new Keys(env);
  context.repository = new Repository(join(folder, "repo"), undefined, context.keys);
  context.plinth = (line) =>
    runCli({ path: "/nowhere/plinth.sock" }, ["snapshot", ...line.split(" ")], { env });
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

const page = (text: string): Buffer => Buffer.concat([Buffer.from(text), Buffer.alloc(PAGE - text.length)]);

function documentOf(name: string, more: Message = {}): Message {
  return {
    format: 1,
    name,
    vm: "a",
    tenant: "red",
    created: 1_790_000_000,
    spec: { name: "a" },
    tscHz: 2_400_000_000,
    abi: 1,
    vendor: "intel",
    cpuid: "01".repeat(32),
    features: ["ept"],
    model: "02".repeat(32),
    vcpus: 1,
    objects: Object.entries(OBJECTS).map(([kind, pages]) => ({ kind, pages: pages.length })),
    generation: new Uint8Array(16),
    ...more,
  };
}

function mapsOf(objects: Record<string, string[]>): PageMap[] {
  return Object.values(objects).map((pages) => {
    const map = new PageMap(pages.length);
    pages.forEach((text, n) => map.set(n, sha256(page(text))));
    return map;
  });
}

interface Made {
  kind?: string;
  objects?: Record<string, string[]>;
  document?: Message;
  base?: Manifest;
  secret?: Secret;
  /** What is put before the end. */
  more?: (writer: RecordWriter) => void;
  /** Pages that are not put in. */
  without?: string[];
}

/** Writes a file with all pages. */
function make(file: string, keys: Keys, made: Made = {}): void {
  const { kind = "snapshot", objects = OBJECTS, document = documentOf("a-1"), base, secret } = made;
  rmSync(file, { force: true });
  const writer = new RecordWriter(file, kind, secret, SALT);
  writeManifest(writer, { document, origin: {}, maps: mapsOf(objects), base }, keys);
  if (kind === "snapshot") {
    const groups = new GroupWriter(writer);
    const texts = new Set(Object.values(objects).flat());
    for (const text of texts)
      if (text !== "" && !made.without?.includes(text)) groups.add(sha256(page(text)), page(text));
    groups.flush();
  }
  made.more?.(writer);
  writer.end();
}

/** What an import does before it connects; the error, or undefined. */
function problemOf(operand: string, repository: Repository): PlinthError | undefined {
  try {
    const source = openSource(operand, repository);
    try {
      checkPages(source, () => undefined);
    } finally {
      source.close();
    }
  } catch (error) {
    if (error instanceof PlinthError) return error;
    throw error;
  }
  return undefined;
}

/** A file whose bytes are changed in place: to write it anew each time would take long. */
class Patch {
  readonly whole: Buffer;
  private readonly fd: number;

  constructor(path: string) {
    this.whole = readFileSync(path);
    this.fd = openSync(path, "r+");
  }

  /** The file is as it was but for this. */
  flip(at: number, mask: number, check: () => void): void {
    writeSync(this.fd, Uint8Array.of(this.whole[at]! ^ mask), 0, 1, at);
    check();
    writeSync(this.fd, this.whole, at, 1, at);
  }

  cut(length: number, check: () => void): void {
    ftruncateSync(this.fd, length);
    check();
    writeSync(this.fd, this.whole, length, this.whole.length - length, length);
  }

  close(): void {
    closeSync(this.fd);
  }
}

const NAMED =
  /record \d+ |is no file of a snapshot|is cut off|ends behind record|bytes behind its end|is encrypted/;

for (const sealed of [false, true]) {
  const what = sealed ? "an encrypted file" : "a file";

  test(`each byte of ${what}, changed in three ways`, ({ file, keys, folder }) => {
    const secret = sealed ? new Secret("key", new Uint8Array(32).fill(7)) : undefined;
    const repository = new Repository(join(folder, "repo"), secret, keys);
    const path = file("a.plinth");
    make(path, keys, secret ? { secret } : {});
    assert.is(problemOf(path, repository), undefined);
    const patch = new Patch(path);
    for (let at = 0; at < patch.whole.length; at++) {
      for (const mask of [0x01, 0x80, 0xff]) {
        patch.flip(at, mask, () => {
          const problem = problemOf(path, repository);
          assert.is(problem?.code, 7, `byte ${at} ^ ${mask}`);
          assert.match(problem!.message, NAMED, `byte ${at} ^ ${mask}`);
        });
      }
    }
    patch.close();
    assert.is(problemOf(path, repository), undefined);
  });

  test(`${what}, cut at each length and with more behind it`, ({ file, keys, folder }) => {
    const secret = sealed ? new Secret("key", new Uint8Array(32).fill(7)) : undefined;
    const repository = new Repository(join(folder, "repo"), secret, keys);
    const path = file("a.plinth");
    make(path, keys, secret ? { secret } : {});
    const patch = new Patch(path);
    const { whole } = patch;
    for (let length = 0; length < whole.length; length++) {
      patch.cut(length, () => {
        const problem = problemOf(path, repository);
        assert.is(problem?.code, 7, `length ${length}`);
        assert.match(problem!.message, NAMED, `length ${length}`);
      });
    }
    patch.close();
    for (const more of [1, 8, 100]) {
      writeFileSync(path, Buffer.concat([whole, Buffer.alloc(more)]));
      assert.match(problemOf(path, repository)!.message, new RegExp(`has ${more} bytes behind its end`));
    }
  });
}

/** The records of a file as they stand there. */
function cut(path: string): Buffer[] {
  const whole = readFileSync(path);
  const records: Buffer[] = [whole.subarray(0, 8)];
  for (let at = 8; at < whole.length;) {
    const end = at + 8 + whole.readUInt32LE(at + 4);
    records.push(whole.subarray(at, end));
    at = end;
  }
  return records;
}

test("records that are exchanged, left out or there twice", ({ file, keys, repository }) => {
  const path = file("a.plinth");
  make(path, keys);
  const records = cut(path);
  assert.is(records.length, 11);
  const refuse = (changed: Buffer[], what: string): void => {
    writeFileSync(path, Buffer.concat(changed));
    const problem = problemOf(path, repository);
    assert.is(problem?.code, 7, what);
    assert.match(problem!.message, NAMED, what);
  };
  for (let one = 1; one < records.length; one++) {
    refuse([...records.slice(0, one), ...records.slice(one + 1)], `without ${one}`);
    refuse([...records.slice(0, one), records[one]!, ...records.slice(one)], `twice ${one}`);
    for (let other = one + 1; other < records.length; other++) {
      const changed = [...records];
      [changed[one], changed[other]] = [changed[other]!, changed[one]!];
      refuse(changed, `${one} and ${other}`);
    }
  }
});

test("records of another file of the same snapshot", ({ file, keys, repository }) => {
  const [one, other] = [file("1.plinth"), file("2.plinth")];
  make(one, keys);
  make(other, keys);
  const [ours, theirs] = [cut(one), cut(other)];
  for (let n = 1; n < ours.length; n++) {
    const changed = [...ours];
    changed[n] = theirs[n]!;
    writeFileSync(one, Buffer.concat(changed));
    assert.is(problemOf(one, repository)?.code, 7, `record ${n - 1}`);
  }
});

/** Changes records and gives each its right check again, as somebody would who knows the format. */
function rewrite(
  from: string,
  to: string,
  change: (type: number, payload: Uint8Array) => Uint8Array | null,
): void {
  const reader = new RecordReader(from, ["snapshot", "manifest", "pages"]);
  rmSync(to, { force: true });
  const writer = new RecordWriter(to, reader.kind, undefined, SALT);
  for (let record = reader.next(); record !== null; record = reader.next()) {
    const payload = change(record.type, record.payload);
    if (payload) writer.record(record.type, payload, record.optional);
  }
  writer.end();
  reader.close();
}

test("changed by somebody who knows the format, but has not the key", ({ file, keys, repository }) => {
  const [path, evil] = [file("a.plinth"), file("evil.plinth")];
  make(path, keys);
  rewrite(path, evil, (_, payload) => payload);
  assert.is(problemOf(evil, repository), undefined);
  const edit = (type: RecordType, change: (message: Message) => Message): void =>
    rewrite(path, evil, (here, payload) => (here === type ? encode(change(cborDecode(payload)!)) : payload));
  const refused = (why: RegExp): void => {
    const problem = problemOf(evil, repository);
    assert.is(problem?.code, 7);
    assert.match(problem!.message, why);
  };
  for (const type of [RecordType.DOCUMENT, RecordType.ORIGIN, RecordType.MAP, RecordType.ROOT]) {
    edit(type, (message) => ({ ...message, evil: 1 }));
    refused(/\(signature\) does not fit what stands before it/);
    rewrite(path, evil, (here, payload) => (here === type ? null : payload));
    refused(/\(signature\) does not fit what stands before it/);
  }
  edit(RecordType.SIGNATURE, (message) => ({ ...message, key: new Uint8Array(32) }));
  refused(/\(signature\) does not fit/);
  edit(RecordType.SIGNATURE, ({ key }) => ({ key: key! }));
  refused(/\(signature\) lacks a field/);
  rewrite(path, evil, (type, payload) => (type === RecordType.SIGNATURE ? null : payload));
  refused(/has no signature/);
  const others = new Keys({ HOME: file("others") });
  make(evil, others);
  refused(/is signed by ed25519:[0-9a-f]{64}, whom you do not trust/);
  // Pages that are others than the manifest says.
  edit(RecordType.GROUP, ({ hashes }) => ({ hashes: Buffer.from(hashes as Uint8Array).reverse() }));
  refused(/lacks pages of the snapshot/);
  rewrite(path, evil, (type, payload) =>
    type === RecordType.DATA
      ? Buffer.concat([Uint8Array.of(0), page("evil"), page("two"), page("three")])
      : payload,
  );
  refused(/\(data\) holds another page than its hash says/);
  for (const payload of [
    Uint8Array.of(0),
    Uint8Array.of(1, 2, 3),
    Uint8Array.of(9),
    new Uint8Array(0),
    Buffer.concat([Uint8Array.of(0), Buffer.alloc(2 * PAGE)]),
  ]) {
    rewrite(path, evil, (type, old) => (type === RecordType.DATA ? payload : old));
    refused(/\(data\) does not hold the pages of its group/);
  }
  make(evil, keys, { without: ["two"] });
  refused(/lacks pages of the snapshot/);
});

test("unknown records: needed ones are refused, optional ones passed over", ({ file, keys, repository }) => {
  const path = file("a.plinth");
  const withRecord = (optional: boolean): void => {
    rmSync(path, { force: true });
    const writer = new RecordWriter(path, "snapshot", undefined, SALT);
    // A writer of a later version, which signs what it adds.
    const real = writer.record.bind(writer);
    const digest = createHash("sha256");
    let added = false;
    writer.record = (type, payload, isOptional = false) => {
      const sign = (kind: number, bytes: Uint8Array, flag: boolean): void => {
        const head = Buffer.alloc(8);
        head.writeUInt16LE(kind, 0);
        head.writeUInt16LE(flag ? 1 : 0, 2);
        head.writeUInt32LE(bytes.length, 4);
        digest.update(createHash("sha256").update(head).update(bytes).digest());
      };
      if (type === RecordType.MAP && !added) {
        added = true;
        const news = encode({ news: "from the future" });
        sign(77, news, optional);
        real(77 as RecordType, news, optional);
      }
      if (type === RecordType.SIGNATURE)
        return real(type, encode({ key: keys.publicKey, signature: keys.sign(digest.digest()) }));
      if (type < RecordType.SIGNATURE) sign(type, payload, isOptional);
      return real(type, payload, isOptional);
    };
    writeManifest(writer, { document: documentOf("a-1"), origin: {}, maps: mapsOf(OBJECTS) }, keys);
    const groups = new GroupWriter(writer);
    for (const text of ["one", "two", "three"]) groups.add(sha256(page(text)), page(text));
    groups.flush();
    writer.end();
  };
  withRecord(true);
  assert.is(problemOf(path, repository), undefined);
  withRecord(false);
  const problem = problemOf(path, repository);
  assert.is(problem?.code, 7);
  assert.match(problem!.message, /record 3 \(77\) is unknown to this plinth, and needed: use a newer one/);
});

test("what a trusted but broken program signs", ({ file, keys, repository }) => {
  const path = file("a.plinth");
  const signed = (records: [RecordType, Message | Uint8Array, boolean?][], why: RegExp): void => {
    rmSync(path, { force: true });
    const writer = new RecordWriter(path, "snapshot", undefined, SALT);
    const digest = createHash("sha256");
    for (const [type, content, optional = false] of records) {
      const payload = content instanceof Uint8Array ? content : encode(content);
      const head = Buffer.alloc(8);
      head.writeUInt16LE(type, 0);
      head.writeUInt16LE(optional ? 1 : 0, 2);
      head.writeUInt32LE(payload.length, 4);
      digest.update(createHash("sha256").update(head).update(payload).digest());
      writer.record(type, payload, optional);
    }
    writer.record(
      RecordType.SIGNATURE,
      encode({ key: keys.publicKey, signature: keys.sign(digest.digest()) }),
    );
    writer.end();
    const problem = problemOf(path, repository);
    assert.is(problem?.code, 7, String(why));
    assert.match(problem!.message, why);
  };
  const document = (more: Message = {}): [RecordType, Message] => [
    RecordType.DOCUMENT,
    documentOf("a-1", more),
  ];
  const one = { objects: [{ kind: "memory", pages: 4 }] };
  const map = (more: Message): [RecordType, Message] => [
    RecordType.MAP,
    { object: 0, first: 0, count: 4, runs: [0, 0, 4], hashes: new Uint8Array(128).fill(1), ...more },
  ];
  signed([], /record 1 \(signature\) does not belong here/);
  signed([document({ format: 9 })], /record 1 \(document\) says format 9/);
  signed([document({ vm: "A B" })], /record 1 \(document\) has a bad field 'vm'/);
  signed([document({ objects: "memory" })], /bad field 'objects'/);
  signed([document(one)], /record 2 \(signature\) does not belong here/);
  signed([document(one), map({ first: 1 })], /record 2 \(map\) is not the piece/);
  signed([document(one), map({ object: 1 })], /record 2 \(map\) is not the piece/);
  signed([document(one), map({ count: 5 })], /bad number of pages/);
  signed([document(one), map({ runs: [0, 4] })], /bad runs/);
  signed([document(one), map({ runs: [0, 0, 5] })], /bad runs/);
  signed([document(one), map({ runs: [0, 0, 3] })], /does not have the pages that it says/);
  signed([document(one), map({ runs: [0, 1, 3] })], /refers to a base, but there is none/);
  signed([document(one), map({ runs: [-1, 0, 5] })], /bad runs/);
  signed([document(one), map({ runs: ["x", 0, 5] })], /bad runs/);
  signed([document(one), map({ runs: Array.from({ length: 3000 }, () => 0) })], /bad runs/);
  signed([document(one), map({ hashes: new Uint8Array(127).fill(1) })], /bad hashes/);
  signed([document(one), map({ hashes: new Uint8Array(129).fill(1) })], /does not have the pages/);
  signed([document(one), map({ hashes: 7 })], /bad runs/);
  signed(
    [document(one), map({}), [RecordType.ROOT, { roots: new Uint8Array(32), root: new Uint8Array(32) }]],
    /\(root\) is not the root of the hashes before it/,
  );
  signed(
    [document(one), [RecordType.BASE, { digest: new Uint8Array(32), name: "../x" }]],
    /is based on snapshot \?/,
  );
  signed(
    [document(one), [RecordType.BASE, { digest: new Uint8Array(3), name: "x" }]],
    /\(base\) lacks a field/,
  );
  signed([[RecordType.DOCUMENT, Uint8Array.of(0xff)]], /\(document\) is no CBOR map/);
  signed([[RecordType.DOCUMENT, Uint8Array.of(0xa1, 0x61, 0x61, 0x18, 0x01)]], /\(document\) is no CBOR map/);
  signed(
    [[RecordType.DOCUMENT, Uint8Array.of(0xa2, 0x61, 0x61, 1, 0x61, 0x61, 2)]],
    /\(document\) is no CBOR map/,
  );
});

test("a differential snapshot with another base, and one that is its own", ({
  file,
  keys,
  repository,
  folder,
}) => {
  const base = file("base.plinth");
  make(base, keys);
  const opened = openManifest(base, repository.reading());
  opened.reader.close();
  const later = { ...OBJECTS, memory: ["one", "new", "", "one", ""] };
  const path = file("later.plinth");
  make(path, keys, {
    objects: later,
    document: documentOf("a-2"),
    base: opened.manifest,
    without: ["one", "three"],
  });
  assert.match(
    problemOf(path, repository)!.message,
    /is based on snapshot a-1 \([0-9a-f]{12}\), which is not in/,
  );
  // One of the same name is not it.
  make(file("false.plinth"), keys, { objects: { ...OBJECTS, state: ["four"] } });
  repository.adopt(openSource(file("false.plinth"), repository), "a-1");
  assert.match(problemOf(path, repository)!.message, /is based on snapshot a-1 .*, which is not in/);
  // By its digest it is found under any name.
  repository.adopt(openSource(base, repository), "other");
  assert.is(problemOf(path, repository), undefined);
  rmSync(join(folder, "repo", "pages"), { recursive: true });
  assert.is(problemOf(path, new Repository(join(folder, "repo"), undefined, keys))!.code, 7);
});

test("each byte of a repository's files", async ({ folder, keys, file, plinth }) => {
  make(file("a.plinth"), keys);
  const repo = join(folder, "repo");
  const first = new Repository(repo, undefined, keys);
  first.adopt(openSource(file("a.plinth"), first), "a-1");
  first.close();
  assert.is((await plinth(`verify --repo ${repo}`)).code, 0);
  const files = ["snapshots", "pages"].flatMap((name) =>
    readdirSync(join(repo, name)).map((it) => join(repo, name, it)),
  );
  assert.is(files.length, 2);
  for (const path of files) {
    const patch = new Patch(path);
    for (let at = 0; at < patch.whole.length; at++) {
      patch.flip(at, 0x41, () => {
        const repository = new Repository(repo, undefined, keys);
        const problems = [...repository.check()].map(({ message }) => message);
        const problem = problemOf("a-1", repository);
        repository.close();
        if (problem) assert.is(problem.code, 7);
        else assert.match(path, /\.pages$/); // its end, which no page needs
        for (const message of problem ? [problem.message] : problems) assert.match(message, NAMED);
        assert.ok(problem ?? problems[0], `${path}, byte ${at}`);
      });
    }
    for (let at = 5; at < patch.whole.length; at += 101) {
      writeFileSync(path, patch.whole.subarray(0, at));
      assert.is((await plinth(`verify --repo ${repo}`)).code, 7, `${path}, length ${at}`);
      assert.is((await plinth(`import a-1 --repo ${repo}`)).code, 7, `${path}, length ${at}`);
    }
    writeFileSync(path, patch.whole);
    patch.close();
  }
  assert.is((await plinth(`verify --repo ${repo}`)).code, 0);
});

test("nothing is asked of a host before all is checked", async ({ file, keys, env }) => {
  const host = await FakeHost.start();
  try {
    const path = file("a.plinth");
    make(path, keys);
    const whole = readFileSync(path);
    const random = new Random(5);
    for (let round = 0; round < 60; round++) {
      const changed = Buffer.from(whole);
      changed[random.below(changed.length)]! ^= 1 + random.below(255);
      writeFileSync(path, changed);
      const { code, stderr } = await runCli(host, ["snapshot", "import", path], { env });
      assert.is(code, 7, stderr);
    }
    assert.is(host.requests.length, 0);
    writeFileSync(path, whole);
    assert.is((await runCli(host, ["snapshot", "import", path], { env })).code, 0);
    assert.is(host.snapshots.bytes("a-1", "memory").subarray(0, 3).toString(), "one");
  } finally {
    await host.stop();
  }
});

test("random bytes, and random records with right checks, are refused without harm", ({
  file,
  keys,
  repository,
}) => {
  const random = new Random(11);
  const path = file("fuzz.plinth");
  make(path, keys);
  const whole = readFileSync(path);
  const pieces = cut(path);
  for (let round = 0; round < 600; round++) {
    let bytes: Buffer;
    if (round % 3 === 0)
      bytes = Buffer.concat([whole.subarray(0, random.below(200)), random.bytes(random.below(300))]);
    else if (round % 3 === 1) {
      bytes = Buffer.from(whole);
      for (let n = random.below(20) + 1; n > 0; n--) bytes[random.below(bytes.length)] = random.below(256);
    } else
      bytes = Buffer.concat(
        Array.from({ length: 12 }, (_, n) => (n === 0 ? pieces[0]! : pieces[random.below(pieces.length)]!)),
      );
    if (bytes.equals(whole)) continue;
    writeFileSync(path, bytes);
    assert.is(problemOf(path, repository)?.code, 7, `round ${round}`);
  }
  // With right checks and any bytes inside.
  for (let round = 0; round < 300; round++) {
    rmSync(path, { force: true });
    const writer = new RecordWriter(path, "snapshot", undefined, SALT);
    for (let n = random.below(8); n >= 0; n--)
      writer.record(1 + random.below(12), random.bytes(random.below(80)), random.below(4) === 0);
    writer.end();
    assert.is(problemOf(path, repository)?.code, 7, `round ${round}`);
  }
});

test("sizes that are not there take no memory", ({ file, keys, repository }) => {
  const path = file("a.plinth");
  const records = (change: (bytes: Buffer) => void): PlinthError => {
    make(path, keys);
    const bytes = readFileSync(path);
    change(bytes);
    writeFileSync(path, bytes);
    return problemOf(path, repository)!;
  };
  assert.match(
    records((bytes) => bytes.writeUInt32LE(0xffffffff, 12)).message,
    /4294967295 bytes long, more than any may be/,
  );
  assert.match(
    records((bytes) => bytes.writeUInt32LE(1 << 20, 12)).message,
    /record 0 \(header\) is cut off by the end/,
  );
  assert.match(
    records((bytes) => bytes.writeUInt16LE(2, 10)).message,
    /flags that this plinth does not know/,
  );
  const before = process.memoryUsage().rss;
  make(path, keys, { document: documentOf("a-1", { objects: [{ kind: "memory", pages: 2 ** 28 }] }) });
  assert.is(problemOf(path, repository)!.code, 7);
  assert.ok(process.memoryUsage().rss - before < 256 << 20);
});

test.run();
