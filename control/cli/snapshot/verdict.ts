// Whether a host can go on from a snapshot: what it needs beside what there is, before anything is sent.

import { ABI_VERSION } from "../../gen/abi";
import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import { formatSize } from "../values";
import { type SnapshotDocument, totalSize } from "./document";

/** One thing that a snapshot needs. */
export interface Need {
  what: string;
  needs: string;
  has: string;
  ok: boolean;
}

/** What a host is, as far as it matters here. */
export interface HostFacts {
  vendor: string;
  features: string[];
  free: number;
  /** Missing: this host does not say. */
  abi?: number;
  tscHz?: number;
}

const VENDORS: Record<string, string> = {
  GenuineIntel: schema.VENDOR_INTEL,
  AuthenticAMD: schema.VENDOR_AMD,
};

export async function hostFacts(client: Client): Promise<HostFacts> {
  const { features, memory, abi, tscHz } = await client.status();
  const { cpu } = await client.hardware();
  return {
    vendor: VENDORS[cpu.vendor] ?? cpu.vendor,
    features,
    free: memory.free,
    ...(abi === undefined ? {} : { abi }),
    ...(tscHz === undefined ? {} : { tscHz }),
  };
}

/** All needs; those that are not met are what is missing. */
export function verdict(document: SnapshotDocument, host: HostFacts): Need[] {
  const size = totalSize(document);
  const lacking = document.features.filter((name) => !host.features.includes(name));
  const same = (what: string, needs: string, has: string | undefined): Need[] =>
    has === undefined ? [] : [{ what, needs, has, ok: needs === has }];
  return [
    ...same("vendor", document.vendor, host.vendor),
    ...same("abi", String(document.abi), String(host.abi ?? ABI_VERSION)),
    ...same("tsc", hertz(document.tscHz), host.tscHz === undefined ? undefined : hertz(host.tscHz)),
    {
      what: "features",
      needs: document.features.join(" ") || "none",
      has: lacking.length === 0 ? "all" : `all but ${lacking.join(" ")}`,
      ok: lacking.length === 0,
    },
    { what: "memory", needs: formatSize(size), has: `${formatSize(host.free)} free`, ok: size <= host.free },
  ];
}

/** What is missing, in one sentence; "": nothing. */
export function verdictText(needs: readonly Need[]): string {
  return needs
    .filter(({ ok }) => !ok)
    .map(({ what, needs: need, has }) => `${what}: it needs ${need}, the host has ${has}`)
    .join("; ");
}

function hertz(value: number): string {
  return `${(value / 1e6).toFixed(3)} MHz`;
}
