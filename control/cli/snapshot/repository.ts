// A repository: a folder with the manifests of snapshots, and the pages of all of them, each once.
//
//   DIR/snapshots/NAME.plinth   manifests
//   DIR/pages/*.pages           pages, in groups; *.pages.part: of a transfer that goes on or was ended
//   DIR/partial/NAME            hashes that an unfinished transfer has been told
//   DIR/salt                    for passphrases

import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { ErrorCode, PlinthError } from "../errors";
import { damaged } from "./damage";
import { NAME } from "./document";
import {
  copyManifest,
  KIND_MANIFEST,
  KIND_SNAPSHOT,
  type Manifest,
  type ManifestContent,
  ownPages,
  readManifest,
  type Reading,
  writeManifest,
} from "./manifest";
import { PACK, PackWriter, UNFINISHED } from "./pack";
import { readGroup } from "./page-group";
import { HASH_SIZE, PAGE_SIZE } from "./page-map";
import { KIND_PAGES, PageStore } from "./page-store";
import { RecordReader, RecordWriter } from "./record-file";
import { SALT_SIZE, type Secret } from "./seal";
import { type Keys, keyText } from "./signing";
import type { Source } from "./source";

const MANIFEST = ".plinth";
/** A transfer that has not written for so long is over. */
const ABANDONED_MS = 24 * 3600_000;

export class Repository {
  readonly folder: string;
  readonly secret: Secret | undefined;
  private readonly keys: Keys;
  private indexed: PageStore | undefined;

  constructor(folder: string, secret: Secret | undefined, keys: Keys) {
    this.folder = folder;
    this.secret = secret;
    this.keys = keys;
  }

  manifestFile(name: string): string {
    return join(this.folder, "snapshots", `${checkName(name)}${MANIFEST}`);
  }

  partialFile(name: string): string {
    return join(this.make("partial"), checkName(name));
  }

  get names(): string[] {
    return list(join(this.folder, "snapshots"))
      .filter((file) => file.endsWith(MANIFEST))
      .map((file) => file.slice(0, -MANIFEST.length))
      .filter((name) => NAME.test(name));
  }

  has(name: string): boolean {
    return NAME.test(name) && existsSync(this.manifestFile(name));
  }

  /** A snapshot's manifest, checked; who has signed it must be trusted, unless `anyone`. */
  read(name: string, anyone = false): Manifest {
    if (!this.has(name)) throw this.missing(name);
    return readManifest(this.manifestFile(name), this.reading(anyone));
  }

  /** How manifests are read here, and those that refer to some here. */
  reading(anyone = false, depth = 0): Reading {
    return {
      secret: this.secret,
      depth,
      accept: (signer, file) => {
        if (!anyone) requireTrust(this.keys, signer, file);
      },
      findBase: (digest, name, file) => this.findBase(digest, name, file, anyone, depth + 1),
    };
  }

  /** All pages that are here. */
  get pages(): PageStore {
    if (this.indexed) return this.indexed;
    const store = new PageStore();
    const folder = join(this.folder, "pages");
    // Whole files first: what is also there is not looked for in others.
    const isWhole = (file: string): boolean => file.endsWith(PACK);
    const files = list(folder).filter((file) => isWhole(file) || file.endsWith(PACK + UNFINISHED));
    for (const file of [...files.filter(isWhole), ...files.filter((file) => !isWhole(file))])
      store.addFile(join(folder, file), this.secret, isWhole(file));
    return (this.indexed = store);
  }

  packWriter(): PackWriter {
    this.forgetIndex();
    return new PackWriter(this.make("pages"), KIND_PAGES, this.secret, this.stretchSalt);
  }

  /** The salt of passphrases, one for all files here: a passphrase is stretched once. */
  get stretchSalt(): Uint8Array {
    const file = join(this.make("."), "salt");
    if (!existsSync(file)) writeFileSync(file, randomBytes(SALT_SIZE), { flag: "wx", mode: 0o600 });
    const salt = readFileSync(file);
    if (salt.length !== SALT_SIZE) throw damaged(file, `has ${salt.length} bytes, not ${SALT_SIZE}`);
    return salt;
  }

  /** Writes and signs the manifest of a snapshot whose pages are all here. */
  save(name: string, content: ManifestContent): Manifest {
    const file = this.manifestFile(name);
    this.make("snapshots");
    this.writeFile(file, (writer) => writeManifest(writer, content, this.keys));
    return this.read(name);
  }

  /** Takes over a snapshot that was checked, with the signature that it has; returns the bytes of pages that are new here. */
  adopt({ manifest, page }: Source, as: string): number {
    if (this.has(as)) throw this.exists(as);
    const store = this.pages;
    const fresh: Buffer[] = [];
    const seen = new Set<string>();
    for (const { hash } of ownPages(manifest)) {
      const key = hash.toString("latin1");
      if (!seen.has(key) && !store.has(hash)) fresh.push(hash);
      seen.add(key);
    }
    const writer = this.packWriter();
    try {
      for (const hash of fresh) writer.add(hash, page(hash));
    } finally {
      writer.close();
    }
    this.make("snapshots");
    const reader = new RecordReader(manifest.file, [KIND_SNAPSHOT], this.secret);
    try {
      this.writeFile(this.manifestFile(as), (file) => copyManifest(reader, file));
    } finally {
      reader.close();
    }
    return fresh.length * PAGE_SIZE;
  }

  /** What is wrong with the files of pages, all of which are read. */
  *check(): Generator<PlinthError> {
    const store = this.pages;
    yield* store.problems;
    for (const groups of store.groups().values()) {
      for (const group of groups) {
        try {
          readGroup(group);
        } catch (error) {
          if (!(error instanceof PlinthError)) throw error;
          yield error;
        }
      }
    }
  }

  /** A file that appears when it is whole. */
  private writeFile(file: string, write: (writer: RecordWriter) => void): void {
    const fresh = `${file}.${randomBytes(4).toString("hex")}${UNFINISHED}`;
    const writer = new RecordWriter(fresh, KIND_MANIFEST, this.secret, this.stretchSalt);
    try {
      write(writer);
      writer.end();
    } catch (error) {
      rmSync(fresh, { force: true });
      throw error;
    }
    renameSync(fresh, file);
  }

  /** Removes a snapshot, and the pages that no other one has; returns how many bytes that frees. */
  remove(name: string): number {
    if (!this.has(name)) throw this.missing(name);
    const others = this.names.filter((other) => other !== name);
    // Nothing is removed that an unreadable manifest may refer to.
    const manifests = others.map((other) => this.read(other, true));
    const file = this.manifestFile(name);
    for (const { document, base } of manifests)
      if (base?.file === file) throw this.inUse(name, document.name);
    const size = statSync(file).size;
    rmSync(file);
    return size + this.clean(manifests);
  }

  close(): void {
    this.forgetIndex();
  }

  /** Removes files of pages that are in none of the manifests; returns their bytes. */
  private clean(manifests: readonly Manifest[]): number {
    const wanted = new Set<string>();
    for (const { maps } of manifests)
      for (const map of maps) for (const page of map.used()) wanted.add(map.hash(page).toString("latin1"));
    const moved = this.packWriter();
    const store = this.pages;
    let freed = 0;
    for (const [{ file, size }, groups] of store.groups()) {
      if (file.endsWith(UNFINISHED) && !isAbandoned(file)) continue;
      const live = groups.filter(({ hashes }) =>
        hashList(hashes).some((hash) => wanted.has(hash.toString("latin1"))),
      );
      if (live.length * 2 > groups.length) continue;
      for (const group of live)
        readGroup(group).forEach((page, n) => moved.add(hashList(group.hashes)[n]!, page));
      moved.close();
      rmSync(file);
      freed += size;
    }
    this.forgetIndex();
    this.sweep();
    return freed;
  }

  /** Removes what transfers have left that nobody has gone on with. */
  private sweep(): void {
    for (const folder of ["snapshots", "partial"]) {
      for (const file of list(join(this.folder, folder))) {
        const path = join(this.folder, folder, file);
        if (folder === "snapshots" && !file.endsWith(UNFINISHED)) continue;
        if (isAbandoned(path)) rmSync(path);
      }
    }
  }

  private forgetIndex(): void {
    this.indexed?.close();
    this.indexed = undefined;
  }

  private make(folder: string): string {
    const path = join(this.folder, folder);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  }

  private findBase(digest: string, name: string, file: string, anyone: boolean, depth: number): Manifest {
    const candidates = [name, ...this.names].filter((candidate) => this.has(candidate));
    for (const candidate of new Set(candidates)) {
      const found = this.tryRead(candidate, anyone, depth);
      if (found?.digest === digest) return found;
    }
    const what = `is based on snapshot ${NAME.test(name) ? name : "?"} (${digest.slice(0, 12)}), which is not in ${this.folder}`;
    throw damaged(file, what, "plinth snapshot ls --local");
  }

  private tryRead(name: string, anyone: boolean, depth: number): Manifest | undefined {
    try {
      return readManifest(this.manifestFile(name), this.reading(anyone, depth));
    } catch (error) {
      if (error instanceof PlinthError) return undefined;
      throw error;
    }
  }

  private missing(name: string): PlinthError {
    const message = `there is no snapshot '${name}' in ${this.folder}`;
    return new PlinthError({
      code: ErrorCode.NOT_FOUND,
      message,
      object: name,
      next: "plinth snapshot ls --local",
    });
  }

  private exists(name: string): PlinthError {
    const message = `${this.folder} has a snapshot of the name ${name} already`;
    return new PlinthError({
      code: ErrorCode.WRONG_STATE,
      message,
      object: name,
      next: `plinth snapshot rm ${name} --local`,
    });
  }

  private inUse(name: string, by: string): PlinthError {
    const message = `${name} stays: ${by} is based on it`;
    return new PlinthError({
      code: ErrorCode.WRONG_STATE,
      message,
      object: name,
      next: `plinth snapshot rm ${by} --local`,
    });
  }
}

/** Refuses what somebody else has signed. */
export function requireTrust(keys: Keys, signer: Uint8Array, file: string): void {
  if (keys.isTrusted(signer)) return;
  const text = keyText(signer);
  throw damaged(file, `is signed by ${text}, whom you do not trust`, `plinth snapshot keys --trust ${text}`);
}

function hashList(hashes: Uint8Array): Buffer[] {
  return Array.from({ length: hashes.length / HASH_SIZE }, (_, n) =>
    Buffer.from(hashes.subarray(n * HASH_SIZE, (n + 1) * HASH_SIZE)),
  );
}

function isAbandoned(file: string): boolean {
  return Date.now() - statSync(file).mtimeMs > ABANDONED_MS;
}

function checkName(name: string): string {
  if (NAME.test(name)) return name;
  const message = `'${name}' is no name of a snapshot`;
  throw new PlinthError({ code: ErrorCode.USAGE, message, object: name, next: "plinth snapshot ls --local" });
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}
