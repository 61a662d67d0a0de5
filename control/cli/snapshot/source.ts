// A snapshot that is here, in a repository or in a file of its own: its manifest, and its pages.

import { renameSync, rmSync, statSync } from "node:fs";
import { damaged } from "./damage";
import { copyManifest, KIND_SNAPSHOT, type Manifest, openManifest, ownPages } from "./manifest";
import { GroupWriter, UNFINISHED } from "./pack";
import { PAGE_SIZE } from "./page-map";
import { PageStore } from "./page-store";
import { RecordReader, RecordWriter } from "./record-file";
import type { Repository } from "./repository";
import type { Secret } from "./seal";

/** Where a snapshot's pages come from. */
export interface Source {
  /** The name of the snapshot, or of its file. */
  name: string;
  manifest: Manifest;
  /** The page with a hash, checked; throws when it cannot be had. */
  page(hash: Uint8Array): Buffer;
  close(): void;
}

/** What is an operand like "a.plinth" or "./a", not the name of a snapshot. */
export function isFile(operand: string): boolean {
  return operand.includes("/") || operand.endsWith(".plinth");
}

/** A snapshot by its name in the repository, or in a file. `anyone`: whoever has signed it. */
export function openSource(operand: string, repository: Repository, anyone = false): Source {
  if (isFile(operand)) return openFile(operand, repository, anyone);
  const manifest = repository.read(operand, anyone);
  return {
    name: operand,
    manifest,
    page: (hash) => readPage([repository.pages], hash),
    close: () => undefined,
  };
}

function openFile(file: string, repository: Repository, anyone: boolean): Source {
  const { manifest, reader } = openManifest(file, repository.reading(anyone));
  const store = new PageStore();
  try {
    if (reader.kind !== KIND_SNAPSHOT)
      throw damaged(file, "is of a repository, and has no pages: name the snapshot");
    store.addReader(reader);
    if (store.problems.length > 0) throw store.missing();
    for (const { hash } of ownPages(manifest))
      if (!store.has(hash)) throw damaged(file, "lacks pages of the snapshot");
  } catch (error) {
    store.close();
    throw error;
  }
  // The pages of a differential one's base are in the repository.
  const stores = (): PageStore[] => (manifest.base ? [store, repository.pages] : [store]);
  return { name: file, manifest, page: (hash) => readPage(stores(), hash), close: () => store.close() };
}

function readPage(stores: readonly PageStore[], hash: Uint8Array): Buffer {
  const store = stores.find((candidate) => candidate.has(hash));
  if (store === undefined) throw stores[stores.length - 1]!.missing();
  return store.read(hash);
}

/** Reads every page once: after that, all that the manifest says is there as it says. */
export function checkPages({ manifest, page }: Source, told: (bytes: number) => void): void {
  const seen = new Set<string>();
  let bytes = 0;
  for (const map of manifest.maps) {
    for (const n of map.used()) {
      const hash = map.hash(n);
      const key = hash.toString("latin1");
      bytes += PAGE_SIZE;
      if (seen.has(key)) continue;
      seen.add(key);
      page(hash);
      told(bytes);
    }
  }
}

/** Writes a snapshot of the repository into one file; returns its size. Its signature stays what it is. */
export function writeSnapshotFile(
  source: Source,
  file: string,
  secrets: { from: Secret | undefined; to: Secret | undefined; stretchSalt: Uint8Array },
  told: (bytes: number) => void,
): number {
  const fresh = file + UNFINISHED;
  rmSync(fresh, { force: true });
  const writer = new RecordWriter(fresh, KIND_SNAPSHOT, secrets.to, secrets.stretchSalt);
  const reader = new RecordReader(source.manifest.file, ["manifest"], secrets.from);
  try {
    copyManifest(reader, writer);
    const groups = new GroupWriter(writer);
    const seen = new Set<string>();
    for (const { hash } of ownPages(source.manifest)) {
      const key = hash.toString("latin1");
      if (seen.has(key)) continue;
      seen.add(key);
      groups.add(hash, source.page(hash));
      told(groups.count * PAGE_SIZE);
    }
    groups.flush();
    writer.end();
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  } finally {
    reader.close();
  }
  renameSync(fresh, file);
  return statSync(file).size;
}
