// Snapshots on the administrator's machine: export, import, verify, diff, and the keys that sign them.

import type { Client } from "../client";
import { BULK, type Command, type Context } from "../command";
import type { Value } from "../../protocol/node/cbor";
import * as schema from "../../protocol/schema";
import { PlinthError, usageError } from "../errors";
import { oneLine } from "../output";
import { Transfer } from "../progress";
import { difference, documentDifferences, pageDifferences, plainText } from "../snapshot/difference";
import type { FieldDifference, ObjectDifference } from "../snapshot/difference";
import { NAME, readDocument, type SnapshotDocument, totalSize } from "../snapshot/document";
import { download } from "../snapshot/download";
import type { Manifest } from "../snapshot/manifest";
import { PAGE_SIZE } from "../snapshot/page-map";
import { allRanges } from "../snapshot/ranges";
import type { Repository } from "../snapshot/repository";
import { RollbackGuard } from "../snapshot/rollback";
import { makeKeyFile } from "../snapshot/seal";
import {
  checkAll,
  isLocal,
  keysOf,
  LOCAL,
  manifestFacts,
  REPO,
  repositoryOf,
  ROLLBACK,
  rollbackWord,
  SECRET,
  signerText,
  TRUST,
} from "../snapshot/setup";
import { Keys, keyText } from "../snapshot/signing";
import { isFile, openSource, writeSnapshotFile } from "../snapshot/source";
import { upload } from "../snapshot/upload";
import { formatSize } from "../values";

export const snapshotExport: Command = {
  name: "snapshot export",
  operands: "NAME [FILE]",
  options: [
    {
      name: "base",
      value: "NAME",
      summary: "a snapshot of the repository: only what differs from it is sent and said",
    },
    { name: "as", value: "NAME", summary: "its name in the repository" },
    { name: "local", summary: "from the repository to FILE, without a host" },
    BULK,
    REPO,
    ...SECRET,
  ],
  completes: "snapshot",
  summary: "bring a snapshot from the host into the repository, and with FILE into one file",
  details: [
    "Pages that the repository has are not sent, and pages of zeros are nowhere. Ctrl-C is safe: the same command goes on",
    "where it was. Everything is signed with your key, and with --key or --passphrase-file it is encrypted too.",
    "A FILE with --base has only the difference; who imports it needs the base.",
  ].join("\n"),
  examples: [
    "plinth snapshot export a-1",
    "plinth snapshot export a-2 --base a-1",
    "plinth snapshot export a-1 a-1.plinth --key backup.key",
  ],
  run: async (context) => {
    const { args, out } = context;
    const [name, file] = args.operands as [string, string | undefined];
    const as = args.value("as") ?? name;
    if (!NAME.test(as)) throw usageError(`'${as}' is no name of a snapshot`, "plinth help snapshot export");
    if (args.has("local") && file === undefined)
      throw usageError(
        "with --local it needs a FILE",
        `plinth snapshot export ${name} ${name}.plinth --local`,
      );
    const repository = repositoryOf(context);
    let sent = 0;
    if (!args.has("local")) {
      const client = await context.connectForPages();
      const done = await download({ client, repository, out, name, as, base: args.value("base") });
      sent = done.sent;
      if (!out.json) out.talk(exportText(as, done.wasThere, done.sent, done.pages, repository.folder));
    }
    const size =
      file === undefined ? undefined : exportFile(context, repository, args.has("local") ? name : as, file);
    if (out.json)
      out.object({
        ...manifestFacts(repository.read(args.has("local") ? name : as), keysOf(context)),
        repository: repository.folder,
        sent: sent * PAGE_SIZE,
        ...(file === undefined ? {} : { file, size }),
      });
  },
};

function exportText(name: string, wasThere: boolean, sent: number, pages: number, folder: string): string {
  if (wasThere) return `${name} is in ${folder} already`;
  return `${name} is in ${folder}: ${formatSize(sent * PAGE_SIZE)} were sent of ${formatSize(pages * PAGE_SIZE)} of data`;
}

function exportFile(context: Context, repository: Repository, name: string, file: string): number {
  const source = openSource(name, repository);
  const total = source.manifest.maps.reduce((sum, { size }) => sum + size, 0);
  const transfer = new Transfer(context.out, `writing ${file}`, total);
  const { secret, stretchSalt } = repository;
  try {
    const size = writeSnapshotFile(source, file, { from: secret, to: secret, stretchSalt }, (bytes) =>
      transfer.at(bytes),
    );
    transfer.end();
    if (!context.out.json) context.out.talk(`${file}: ${formatSize(size)}`);
    return size;
  } finally {
    transfer.end();
  }
}

export const snapshotImport: Command = {
  name: "snapshot import",
  operands: "NAME|FILE",
  options: [
    { name: "as", value: "NAME", summary: "its name on the host, or with --local in the repository" },
    { name: "local", summary: "from FILE into the repository, without a host" },
    BULK,
    TRUST,
    ...ROLLBACK,
    REPO,
    ...SECRET,
  ],
  completes: "snapshot",
  summary: "bring a snapshot of the repository, or of a file, to the host",
  details: [
    "Every byte is checked before the host hears of it: all pages, the tree of hashes, and the signature, which has to be",
    "yours or of a key that you trust. The host says first what it lacks to go on from it. Ctrl-C is safe, as in 'snapshot",
    "export'. Then: plinth snapshot restore NAME, or snapshot clone NAME VM.",
    '{"noRollback": true} in ~/.config/plinth/snapshot.json is as if --no-rollback were always given.',
  ].join("\n"),
  examples: ["plinth snapshot import a-1", "plinth snapshot import ./a-1.plinth --trust ed25519:0123..."],
  run: async (context) => {
    const { args, out } = context;
    const operand = args.operands[0]!;
    const keys = keysOf(context);
    const repository = repositoryOf(context, keys);
    const guard = new RollbackGuard(context.world.env, rollbackWord(context));
    if (args.has("local") && !isFile(operand))
      throw usageError(
        `${operand} is in the repository already, or is no FILE`,
        "plinth snapshot ls --local",
      );
    const source = openSource(operand, repository);
    try {
      const { document } = source.manifest;
      const as = args.value("as") ?? (isFile(operand) ? document.name : operand);
      if (!NAME.test(as)) throw usageError(`'${as}' is no name of a snapshot`, "plinth help snapshot import");
      checkAll(source, context);
      guard.check(document);
      if (args.has("local")) {
        const added = repository.adopt(source, as);
        if (out.json) return out.object({ ...manifestFacts(source.manifest, keys), name: as, added });
        return out.talk(`${as} is in ${repository.folder}: ${formatSize(added)} of data are new there`);
      }
      const client = await context.connectForPages();
      const base = await baseOnHost(client, source.manifest);
      const done = await upload({ client, source, out, as, base });
      guard.note(document);
      if (out.json) return out.object({ ...done, sent: done.sent * PAGE_SIZE });
      const next = `next: plinth snapshot restore ${as}, or plinth snapshot clone ${as} VM`;
      if (done.wasThere) out.talk(`${as} is on the host already; ${next}`);
      else out.talk(`${as} is on the host, ${formatSize(done.sent * PAGE_SIZE)} were sent; ${next}`);
    } finally {
      source.close();
    }
  },
};

/** The base of a differential snapshot, or the base's base, if the host has it. */
async function baseOnHost(
  client: Client,
  manifest: Manifest,
): Promise<{ name: string; maps: Manifest["maps"] } | undefined> {
  if (manifest.base === undefined) return undefined;
  const known = new Map<string, string>();
  for (const { name, vm, state } of await client.snapshots()) {
    if (state !== schema.STATE_COMPLETE || vm !== manifest.document.vm) continue;
    const { generation } = await client.showSnapshot(name);
    if (generation instanceof Uint8Array) known.set(Buffer.from(generation).toString("hex"), name);
  }
  for (let base: Manifest | undefined = manifest.base; base !== undefined; base = base.base) {
    const name = known.get(base.document.generation);
    if (name !== undefined) return { name, maps: base.maps };
  }
  return undefined;
}

export const snapshotVerify: Command = {
  name: "snapshot verify",
  operands: "[NAME|FILE]",
  options: [
    { name: "host", summary: "also whether the host can go on from it, and what it lacks" },
    { name: "untrusted", summary: "whoever has signed it" },
    TRUST,
    REPO,
    ...SECRET,
  ],
  completes: "snapshot",
  summary: "check every byte of a snapshot here, or without NAME of the whole repository",
  examples: [
    "plinth snapshot verify",
    "plinth snapshot verify a-1 --host",
    "plinth snapshot verify ./a-1.plinth",
  ],
  run: async (context) => {
    const operand = context.args.operands[0];
    const keys = keysOf(context);
    const repository = repositoryOf(context, keys);
    if (operand === undefined) return verifyRepository(context, repository);
    const source = openSource(operand, repository, context.args.has("untrusted"));
    try {
      checkAll(source, context);
      const { manifest } = source;
      const { document, signer, root } = manifest;
      const bytes = manifest.maps.reduce((sum, { size }) => sum + size, 0);
      if (context.args.has("host")) await (await context.connect()).checkSnapshot(document.raw);
      if (context.out.json)
        return context.out.object({ ...manifestFacts(manifest, keys), bytes, ...needsOf(document) });
      context.out.facts([
        ["snapshot", `${document.name} of ${document.vm}, ${formatSize(bytes)} of data, all as it was`],
        ["root", root],
        ["signed by", signerText(signer, keys)],
        ...Object.entries(needsOf(document).needs).map(
          ([what, need]) => [`needs ${what}`, oneLine(plainText(need))] as const,
        ),
        ...(context.args.has("host") ? [["host", "has all that it needs"] as const] : []),
      ]);
    } finally {
      source.close();
    }
  },
};

/** What a host has to have to go on from it. */
function needsOf(document: SnapshotDocument): { needs: Record<string, Value> } {
  const { vendor, features, tscHz, abi } = document;
  return { needs: { vendor, features, tscHz, abi, memory: totalSize(document) } };
}

/** All manifests and all pages, also those that none needs. */
function verifyRepository(context: Context, repository: Repository): void {
  const { out } = context;
  const problems: PlinthError[] = [...repository.check()];
  for (const name of repository.names) {
    try {
      const source = openSource(name, repository, context.args.has("untrusted"));
      checkAll(source, context);
      if (!out.json) out.line(`${name}: all as it was`);
    } catch (error) {
      if (!(error instanceof PlinthError)) throw error;
      problems.push(error);
    }
  }
  const messages = [...new Set(problems.map(({ message }) => message))];
  if (out.json)
    out.object({ repository: repository.folder, snapshots: repository.names, problems: messages });
  if (problems.length === 0) return;
  if (!out.json) for (const message of messages.slice(1)) out.talk(oneLine(message));
  throw problems[0]!;
}

export const snapshotDiff: Command = {
  name: "snapshot diff",
  operands: "ONE OTHER",
  options: [LOCAL, REPO, ...SECRET, TRUST],
  completes: "snapshot",
  summary: "in how many pages two snapshots differ, and in what is said of them",
  details: "Both are on the host; with --local, or if one is a FILE, both are in the repository or files.",
  examples: ["plinth snapshot diff a-1 a-2", "plinth snapshot diff a-1 ./other.plinth"],
  run: async (context) => {
    const [one, other] = context.args.operands as [string, string];
    const here = isLocal(context) || isFile(one) || isFile(other);
    const { objects, fields } = here ? localDiff(context, one, other) : await hostDiff(context, one, other);
    const { out } = context;
    if (out.json) return out.object({ objects, fields });
    out.table(
      ["OBJECT", ">PAGES", ">OF", ">BYTES"],
      objects.map(({ kind, pages, of, bytes }) => [
        oneLine(kind),
        String(pages),
        String(of),
        formatSize(bytes),
      ]),
    );
    for (const { field, one: a, other: b } of fields)
      out.line(oneLine(`${field}: ${plainText(a) || "nothing"} -> ${plainText(b) || "nothing"}`));
  },
};

interface Differences {
  objects: ObjectDifference[];
  fields: FieldDifference[];
}

function localDiff(context: Context, one: string, other: string): Differences {
  const repository = repositoryOf(context);
  const [a, b] = [openSource(one, repository, true), openSource(other, repository, true)];
  try {
    const fields = documentDifferences(a.manifest.document.raw, b.manifest.document.raw);
    return { objects: pageDifferences(a.manifest, b.manifest), fields };
  } finally {
    a.close();
    b.close();
  }
}

async function hostDiff(context: Context, one: string, other: string): Promise<Differences> {
  const client = await context.connect();
  const [a, b] = [await client.showSnapshot(one), await client.showSnapshot(other)];
  const document = readDocument(b, (what) => usageError(`the document of ${other} ${what}`));
  const objects: ObjectDifference[] = [];
  for (const { kind, pages } of document.objects) {
    const ranges = await allRanges(client, { name: other, kind, pages, base: one });
    const count = ranges.reduce((sum, range) => sum + range.count, 0);
    objects.push(difference(kind, count, pages));
  }
  return { objects, fields: documentDifferences(a, b) };
}

export const snapshotKeys: Command = {
  name: "snapshot keys",
  operands: "",
  options: [
    { ...TRUST, summary: "from now on accept what this public key has signed: ed25519:HEX, or a PEM file" },
    { name: "make", value: "FILE", summary: "make a key for encryption" },
    { name: "pem", summary: "print your public key as PEM" },
  ],
  summary: "the key that signs your snapshots, and those that you trust",
  details:
    "Your own is made when it is needed first, in ~/.config/plinth; trusted-keys there has one key a line.",
  examples: [
    "plinth snapshot keys",
    "plinth snapshot keys --trust colleague.pem",
    "plinth snapshot keys --make backup.key",
  ],
  run: async (context) => {
    const { args, out, world } = context;
    const file = args.value("make");
    if (file !== undefined) {
      makeKeyFile(file);
      if (!out.json) out.talk(`${file}: a new key; without it, what it encrypts is lost`);
    }
    const keys = new Keys(world.env);
    for (const given of args.values("trust")) {
      const text = keyText(keys.remember(given));
      if (!out.json) out.talk(`${text} is trusted from now on`);
    }
    if (args.has("pem")) return out.line(keys.publicPem.trimEnd());
    if (out.json) return out.object({ key: keyText(keys.publicKey), trusted: keys.others });
    if (file === undefined && !args.has("trust"))
      out.facts([
        ["yours", keyText(keys.publicKey)],
        ...keys.others.map((text) => ["trusted", text] as const),
      ]);
  },
};
