// The fields of a VM as options and words on the command line give them.

import type { Arguments } from "./arguments";
import { usageError } from "./errors";
import type { Fields } from "./spec-file";
import { parseBoolean, parseNumber } from "./values";

/** Numbers that say how it gets its CPU time: percents, milliseconds. */
const SHARE_NUMBERS = ["weight", "cap", "reserve", "period", "latency"];

/** The fields of a VM that options of `plinth create` give. */
export function optionFields(args: Arguments): Fields {
  const fields: Fields = {};
  for (const key of [
    "tenant",
    "kernel",
    "initrd",
    "firmware",
    "cmdline",
    "boot",
    "console",
    "memory",
    "balloon",
    "rings",
    "scheduling",
    "cpus",
  ]) {
    const value = args.value(key);
    if (value !== undefined) fields[key] = value;
  }
  for (const key of ["vcpus", "node", ...SHARE_NUMBERS]) {
    const value = args.value(key);
    if (value !== undefined) fields[key] = parseNumber(value.replace(/%$/, ""), `--${key}`);
  }
  const modules = args.values("module").map(parseModule);
  if (modules.length > 0) fields.modules = modules;
  if (args.has("debug-exit")) fields.debugExit = true;
  const disks = args.values("disk").map(parseDisk);
  if (disks.length > 0) fields.disks = disks;
  const networks = args.values("network").map(parseNetwork);
  if (networks.length > 0) fields.networks = networks;
  const tags = args.values("tag");
  if (tags.length > 0) fields.tags = tags;
  if (args.has("protected")) fields.protected = true;
  const ports = args.values("port");
  if (ports.length > 0) fields.ports = ports;
  if (args.has("start")) fields.start = true;
  const policy = args.value("restart");
  if (policy !== undefined) fields.restart = parseRestart(policy);
  return fields;
}

/** "IMAGE", or "IMAGE,COMMAND LINE". */
function parseModule(text: string): Fields {
  const comma = text.indexOf(",");
  return comma < 0 ? { image: text } : { image: text.slice(0, comma), cmdline: text.slice(comma + 1) };
}

/** "IMAGE", "IMAGE,ro" or "IMAGE,cd". */
function parseDisk(text: string): Fields {
  const match = /^([^,]+)(,ro|,cd)?$/.exec(text);
  if (!match) throw usageError(`--disk: '${text}' is not IMAGE, IMAGE,ro or IMAGE,cd`);
  if (match[2] === ",cd") return { image: match[1], cdrom: true };
  return match[2] ? { image: match[1], readOnly: true } : { image: match[1] };
}

/** "NETWORK", or "NETWORK,MAC". */
function parseNetwork(text: string): Fields {
  const match = /^([^,]+)(?:,([^,]+))?$/.exec(text);
  if (!match) throw usageError(`--network: '${text}' is not NETWORK or NETWORK,MAC`);
  return match[2] ? { network: match[1], mac: match[2] } : { network: match[1] };
}

/** "on-failure", or "on-failure:3/60s": at most 3 times in 60 seconds. */
export function parseRestart(text: string): Fields {
  const match = /^([a-z-]+)(?::(\d+)\/(\d+)s?)?$/.exec(text);
  if (!match) throw usageError(`--restart: '${text}' is not POLICY or POLICY:MAX/SECONDS`);
  return match[2]
    ? { policy: match[1], max: Number(match[2]), window: Number(match[3]) }
    : { policy: match[1] };
}

/** What `plinth set` changes: "tags=web,blue", "protected=no", "restart=on-failure:3/60s". */
export function changedFields(words: readonly string[]): Fields {
  const fields: Fields = {};
  for (const word of words) {
    const [, key, text] = /^([a-z]+)=(.*)$/s.exec(word) ?? [];
    if (key === "tags") fields.tags = text!.split(",").filter((tag) => tag !== "");
    else if (key === "protected") fields.protected = parseBoolean(text!, "protected");
    else if (key === "restart") fields.restart = parseRestart(text!);
    else if (key === "scheduling" || key === "cpus") fields[key] = text;
    else if (SHARE_NUMBERS.includes(key!)) fields[key!] = parseNumber(text!.replace(/%$/, ""), key!);
    else
      throw usageError(
        `'${word}' is none of tags=TAG,TAG, protected=yes|no, restart=POLICY, scheduling=CLASS, weight=N, cap=N, reserve=N, period=MS, latency=MS, cpus=SET`,
        "plinth help set",
      );
  }
  return fields;
}
