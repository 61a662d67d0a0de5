// Which snapshots of a repository are there because a VM is protected: by host and VM, the newest first.

import { randomInt } from "node:crypto";
import * as schema from "../../protocol/schema";
import { PlinthError } from "../errors";
import type { Manifest } from "../snapshot/manifest";
import type { Repository } from "../snapshot/repository";

/** The note of snapshots that `plinth protect` makes. */
export const NOTE = "plinth protect";

/** A name that nobody has: of the VM, when by this machine's clock, and by chance. */
export function newName(vm: string): string {
  const end = `.${Date.now().toString(36)}${randomInt(36).toString(36)}`;
  return vm.slice(0, schema.Specification.MAX_NAME - end.length) + end;
}

/** Milliseconds: when it was asked for, by the name; the host's clock may be another. */
function timeOf(name: string, { document }: Manifest): number {
  const [, digits] = /\.([0-9a-z]{8})[0-9a-z]$/.exec(name) ?? [];
  return digits === undefined ? document.created * 1000 : parseInt(digits, 36);
}

export interface Kept {
  name: string;
  /** Milliseconds. */
  at: number;
  manifest: Manifest;
}

/** What was kept of a host's VMs, or of one, the newest first; `bad` hears of what cannot be read. */
export function keptOf(
  repository: Repository,
  host: string,
  vm: string | undefined,
  bad: (name: string, error: PlinthError) => void = () => undefined,
): Kept[] {
  const found: Kept[] = [];
  for (const name of repository.names) {
    try {
      const manifest = repository.read(name);
      const { document, origin } = manifest;
      if (document.raw.note !== NOTE || origin.host !== host) continue;
      if (vm === undefined || document.vm === vm) found.push({ name, at: timeOf(name, manifest), manifest });
    } catch (error) {
      if (!(error instanceof PlinthError)) throw error;
      bad(name, error);
    }
  }
  return found.sort((a, b) => b.at - a.at);
}
