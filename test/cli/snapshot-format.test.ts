// The format of snapshots' files: old ones can be read, and they are what control/cli/snapshot/README.md says.

import { createDecipheriv, createHash, createPublicKey, hkdfSync, scryptSync, verify } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cborDecode, type Message } from "../../control/protocol/node/cbor";
import { Repository } from "../../control/cli/snapshot/repository";
import { Secret } from "../../control/cli/snapshot/seal";
import { Keys } from "../../control/cli/snapshot/signing";
import { PageMap, sha256 } from "../../control/cli/snapshot/page-map";
import { checkPages, openSource } from "../../control/cli/snapshot/source";
import { PLAIN, SIGNER, WITH_KEY, WITH_PASSPHRASE } from "./snapshot-v1";
import { Random } from "./random";

const test = suite("format of snapshots");
const ROOT = "36225adebf077da52cda8b824cb75427b56ce615f7780c37785cb6b22bd322b1";
const DIGEST = "4691dc6452f47df1b8808bd3687fd7a59bd6260ef39623eb02971d5963f91519";
const PHRASE = "correct horse battery staple";

test("files of version 1 are readable", () => {
  const folder = mkdtempSync(join(tmpdir(), "plinth-v1-"));
  try {
    for (const [bytes, secret] of [
      [PLAIN, undefined],
      [WITH_KEY, new Secret("key", new Uint8Array(32).fill(7))],
      [WITH_PASSPHRASE, new Secret("scrypt", Buffer.from(PHRASE))],
    ] as const) {
      const file = join(folder, "a.plinth");
      writeFileSync(file, bytes);
      const keys = new Keys({ HOME: folder });
      keys.trust(SIGNER);
      const source = openSource(file, new Repository(join(folder, "repo"), secret, keys));
      checkPages(source, () => undefined);
      const { document, root, digest, origin, maps } = source.manifest;
      assert.is(document.name, "a-1");
      assert.equal(document.objects, [
        { kind: "state", pages: 1 },
        { kind: "memory", pages: 605 },
      ]);
      assert.equal(origin, { host: "rig", plinth: "0.1.0", exported: 1790000001 });
      assert.is(root, ROOT);
      assert.is(digest, DIGEST);
      assert.equal([...maps[1]!.used()], [0, 2, 3, 604]);
      assert.is(source.page(maps[1]!.hash(604)).toString("latin1", 0, 5), "last\0");
      source.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

const hash = (...pieces: Uint8Array[]): Buffer => createHash("sha256").update(Buffer.concat(pieces)).digest();
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

interface Piece {
  type: number;
  flags: number;
  payload: Buffer;
}

/** A reader that knows no more than what the README says. */
function readFile(bytes: Buffer, secret?: (sealed: Message) => Uint8Array): Piece[] {
  assert.equal(bytes.subarray(0, 8), Buffer.from("\x89PLNTH\r\n", "latin1"));
  const pieces: Piece[] = [];
  let salt = Buffer.alloc(0);
  let key: Uint8Array | undefined;
  for (let at = 8; at < bytes.length;) {
    const head = bytes.subarray(at, at + 8);
    const body = bytes.subarray(at + 8, at + 8 + head.readUInt32LE(4));
    at += 8 + body.length;
    let payload: Buffer;
    if (key && pieces.length > 0) {
      const nonce = Buffer.concat([u64(pieces.length), Buffer.alloc(4)]);
      const cipher = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
      cipher.setAAD(head, { plaintextLength: body.length - 16 });
      cipher.setAuthTag(body.subarray(-16));
      payload = Buffer.concat([cipher.update(body.subarray(0, -16)), cipher.final()]);
    } else {
      payload = body.subarray(0, -32);
      assert.equal(body.subarray(-32), hash(salt, u64(pieces.length), head, payload));
    }
    if (pieces.length === 0) {
      const header = cborDecode(payload)!;
      salt = Buffer.from(header.salt as Uint8Array);
      if (header.sealed)
        key = new Uint8Array(
          hkdfSync("sha256", secret!(header.sealed as Message), salt, "plinth snapshot: records", 32),
        );
    }
    pieces.push({ type: head.readUInt16LE(0), flags: head.readUInt16LE(2), payload });
  }
  return pieces;
}

/** The root of an object by what the README says, level by level. */
function rootOf(hashes: Buffer[]): Buffer {
  const step = (level: Buffer[], height: number): Buffer[] =>
    Array.from({ length: Math.ceil(level.length / 256) }, (_, n) =>
      hash(Uint8Array.of(height), ...level.slice(n * 256, (n + 1) * 256)),
    );
  let level = step(hashes, 0);
  for (let height = 1; level.length > 1; height++) level = step(level, height);
  return hash(Uint8Array.of(255), u64(hashes.length), level[0]!);
}

function checkFile(pieces: Piece[]): void {
  assert.equal(
    pieces.map(({ type }) => type),
    [1, 2, 3, 5, 5, 6, 7, 8, 9, 10],
  );
  assert.equal(
    pieces.map(({ flags }) => flags),
    [0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
  );
  const cbor = (n: number): Message => cborDecode(pieces[n]!.payload)!;
  assert.is(cbor(0).kind, "snapshot");
  const zero = hash(Buffer.alloc(4096));
  const roots = [3, 4].map((n) => {
    const { runs, hashes } = cbor(n) as { runs: number[]; hashes: Uint8Array };
    const all: Buffer[] = [];
    let at = 0;
    runs.forEach((length, kind) => {
      for (let count = 0; count < length; count++) {
        all.push(kind % 3 === 0 ? zero : Buffer.from(hashes.subarray(at, at + 32)));
        if (kind % 3 === 2) at += 32;
      }
    });
    return rootOf(all);
  });
  assert.equal(Buffer.from(cbor(5).roots as Uint8Array), Buffer.concat(roots));
  const root = hash(Uint8Array.of(254), hash(pieces[1]!.payload), ...roots);
  assert.is(root.toString("hex"), ROOT);
  const signed = hash(
    ...pieces.slice(1, 6).map(({ type, flags, payload }) => {
      const head = Buffer.alloc(8);
      head.writeUInt16LE(type, 0);
      head.writeUInt16LE(flags, 2);
      head.writeUInt32LE(payload.length, 4);
      return hash(head, payload);
    }),
  );
  assert.is(signed.toString("hex"), DIGEST);
  const { key, signature } = cbor(6) as { key: Uint8Array; signature: Uint8Array };
  const x = Buffer.from(key).toString("base64url");
  const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  assert.ok(
    verify(
      null,
      Buffer.concat([Buffer.from("plinth snapshot manifest, format 1\0"), signed]),
      publicKey,
      signature,
    ),
  );
  const hashes = Buffer.from(cbor(7).hashes as Uint8Array);
  const data = pieces[8]!.payload;
  assert.is(data[0], 1);
  const pages = brotliDecompressSync(data.subarray(1));
  assert.is(pages.length, (hashes.length / 32) * 4096);
  for (let n = 0; n * 32 < hashes.length; n++)
    assert.equal(hash(pages.subarray(n * 4096, (n + 1) * 4096)), hashes.subarray(n * 32, (n + 1) * 32));
  assert.is(cbor(9).records, 9);
}

test("the README says what is in a file", () => {
  checkFile(readFile(PLAIN));
  checkFile(readFile(WITH_KEY, () => new Uint8Array(32).fill(7)));
  checkFile(
    readFile(WITH_PASSPHRASE, ({ derivation, stretchSalt }) => {
      assert.is(derivation, "scrypt");
      return scryptSync(PHRASE, stretchSalt as Uint8Array, 32, { N: 65536, r: 8, p: 1, maxmem: 128 << 20 });
    }),
  );
});

test("the tree of hashes, for many sizes", () => {
  const random = new Random(31);
  const zero = hash(Buffer.alloc(4096));
  for (const pages of [1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537]) {
    const map = new PageMap(pages);
    const all: Buffer[] = Array.from({ length: pages }, () => zero);
    for (let n = 0; n < 40; n++) {
      const page = random.below(pages);
      all[page] = sha256(random.bytes(8));
      map.set(page, all[page]!);
    }
    assert.equal(map.root, rootOf(all), `${pages} pages`);
    const page = random.below(pages);
    const before = map.root;
    map.set(page, sha256(random.bytes(8)));
    assert.not.equal(map.root, before);
    map.set(page, all[page]!);
    assert.equal(map.root, before);
  }
});

test("a page map knows what is used, and what has changed", () => {
  const random = new Random(37);
  for (let round = 0; round < 50; round++) {
    const pages = 1 + random.below(1000);
    const [one, other] = [new PageMap(pages), new PageMap(pages)];
    for (let n = random.below(200); n > 0; n--)
      one.set(random.below(pages), sha256(Uint8Array.of(random.below(3))));
    for (let n = random.below(200); n > 0; n--)
      other.set(random.below(pages), sha256(Uint8Array.of(random.below(3))));
    const all = Array.from({ length: pages }, (_, n) => n);
    assert.equal(
      [...one.used()],
      all.filter((n) => !one.isZero(n)),
    );
    assert.equal(
      [...one.changed(other)],
      all.filter((n) => !one.hash(n).equals(other.hash(n))),
    );
    assert.equal([...one.changed(undefined)], [...one.used()]);
  }
});

test.run();
