// What the commands about snapshots have in common: options, the repository, keys, and how things are said.

import type { Option } from "../arguments";
import type { Context } from "../command";
import { usageError } from "../errors";
import { oneLine } from "../output";
import { Transfer } from "../progress";
import { PAGE_SIZE } from "./page-map";
import { Repository } from "./repository";
import { readKeyFile, readPassphraseFile, type Secret } from "./seal";
import { defaultRepository } from "./settings";
import { Keys, keyText } from "./signing";
import { checkPages, type Source } from "./source";
import type { Manifest } from "./manifest";

export const REPO: Option = {
  name: "repo",
  value: "DIR",
  choices: ["file"],
  summary: "the repository: if not given, $PLINTH_REPO or ~/.local/share/plinth/snapshots",
};
export const LOCAL: Option = { name: "local", summary: "in the repository on this machine, not on the host" };
export const SECRET: readonly Option[] = [
  {
    name: "key",
    value: "FILE",
    choices: ["file"],
    summary: "encrypt and decrypt with the key in FILE (snapshot keys --make)",
  },
  {
    name: "passphrase-file",
    value: "FILE",
    choices: ["file"],
    summary: "encrypt and decrypt with a passphrase, the first line of FILE",
  },
];
export const TRUST: Option = {
  name: "trust",
  value: "KEY",
  repeat: true,
  choices: ["file"],
  summary: "accept what this public key has signed: ed25519:HEX, or a PEM file",
};
export const ROLLBACK: readonly Option[] = [
  { name: "no-rollback", summary: "refuse one that is older than what was used of this VM before" },
  { name: "allow-rollback", summary: "go back even if ~/.config/plinth/snapshot.json forbids it" },
];

/** Whether a command is about the repository, not the host. */
export function isLocal({ args }: Context): boolean {
  return args.has("local") || args.has("repo");
}

/** The key for encryption; undefined: nothing is encrypted. */
function secretOf({ args }: Context): Secret | undefined {
  const key = args.value("key");
  const passphrase = args.value("passphrase-file");
  if (key !== undefined && passphrase !== undefined)
    throw usageError("give only one of --key and --passphrase-file");
  if (key !== undefined) return readKeyFile(key);
  return passphrase === undefined ? undefined : readPassphraseFile(passphrase);
}

/** The user's keys, and whom the command line trusts. */
export function keysOf({ world, args }: Context): Keys {
  const keys = new Keys(world.env);
  for (const given of args.values("trust")) keys.trust(given);
  return keys;
}

export function repositoryOf(context: Context, keys: Keys = keysOf(context)): Repository {
  const folder = context.args.value("repo") ?? defaultRepository(context.world.env);
  return new Repository(folder, secretOf(context), keys);
}

/** What the command line says about going back; undefined: nothing. */
export function rollbackWord({ args }: Context): boolean | undefined {
  if (args.has("no-rollback") && args.has("allow-rollback"))
    throw usageError("give only one of --no-rollback and --allow-rollback");
  if (args.has("no-rollback")) return true;
  return args.has("allow-rollback") ? false : undefined;
}

/** Checks every page, and tells how far it is. */
export function checkAll(source: Source, context: Context): void {
  const total = source.manifest.maps.reduce((sum, { size }) => sum + size, 0);
  const transfer = new Transfer(context.out, `checking ${source.name}`, total);
  try {
    checkPages(source, (bytes) => transfer.at(bytes));
  } finally {
    transfer.end();
  }
}

/** "ed25519:... (you)". */
export function signerText(signer: Uint8Array, keys: Keys): string {
  const text = keyText(signer);
  if (text === keyText(keys.publicKey)) return `${text} (you)`;
  return `${text} (${keys.isTrusted(signer) ? "trusted" : "not trusted"})`;
}

/** "2026-11-30 07:08:03Z". */
export function timeText(seconds: unknown): string {
  const date = new Date(Number(seconds) * 1000);
  return Number.isNaN(date.getTime())
    ? oneLine(seconds)
    : date.toISOString().replace("T", " ").replace(/\.\d+/, "");
}

/** What is said of a manifest, for programs. */
export function manifestFacts(
  { document, maps, base, root, digest, signer, origin }: Manifest,
  keys: Keys,
): object {
  return {
    name: document.name,
    vm: document.vm,
    created: document.created,
    ...(base ? { base: base.document.name } : {}),
    origin,
    root,
    digest,
    signer: keyText(signer),
    trusted: keys.isTrusted(signer),
    objects: document.objects.map(({ kind, pages }, n) => ({ kind, pages, used: maps[n]!.size / PAGE_SIZE })),
  };
}
