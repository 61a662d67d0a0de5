// Reads what a VM should be, from options or from a JSON file, and checks what can be checked here.

import { readFileSync } from "node:fs";
import * as schema from "../protocol/schema";
import type { Arguments } from "./arguments";
import { ErrorCode, PlinthError, usageError } from "./errors";
import { nearest } from "./nearest";
import type { VmSpec } from "./results";
import { parseNumber, parseSize } from "./values";

type Fields = Record<string, unknown>;

const VM_FIELDS = [
  "name",
  "memory",
  "vcpus",
  "kernel",
  "initrd",
  "cmdline",
  "console",
  "disks",
  "start",
  "restart",
];
const HOST_FIELDS = ["version", "host", "vms"];
const DISK_FIELDS = ["image", "readOnly"];
const RESTART_FIELDS = ["policy", "max", "window"];
const CONSOLES = [schema.CONSOLE_SERIAL, schema.CONSOLE_VIRTIO];
const POLICIES = [schema.POLICY_NEVER, schema.POLICY_ON_FAILURE, schema.POLICY_ALWAYS];

/** The VMs that `plinth create` was asked for: at least one. */
export function specsFromArguments(args: Arguments): VmSpec[] {
  const file = args.value("file");
  const name = args.operands[0];
  const changes = optionFields(args);
  if (file === undefined) {
    if (name === undefined) throw usageError("'plinth create' needs NAME or --file", "plinth help create");
    return [checkVm({ name, ...changes }, `VM '${name}'`)];
  }
  const vms = readVms(file);
  if (vms.length > 1 && (name !== undefined || Object.keys(changes).length > 0)) {
    throw usageError(`${file} holds ${vms.length} VMs, so NAME and options cannot change one of them`);
  }
  return vms.map((vm) =>
    checkVm({ ...vm, ...(name ? { name } : {}), ...changes }, `${file}, VM '${String(vm.name ?? name)}'`),
  );
}

function optionFields(args: Arguments): Fields {
  const fields: Fields = {};
  for (const key of ["kernel", "initrd", "cmdline", "console", "memory"]) {
    const value = args.value(key);
    if (value !== undefined) fields[key] = value;
  }
  const vcpus = args.value("vcpus");
  if (vcpus !== undefined) fields.vcpus = parseNumber(vcpus, "--vcpus");
  const disks = args.values("disk").map(parseDisk);
  if (disks.length > 0) fields.disks = disks;
  if (args.has("start")) fields.start = true;
  const policy = args.value("restart");
  if (policy !== undefined) fields.restart = parseRestart(policy);
  return fields;
}

/** "IMAGE", or "IMAGE,ro". */
function parseDisk(text: string): Fields {
  const match = /^([^,]+)(,ro)?$/.exec(text);
  if (!match) throw usageError(`--disk: '${text}' is not IMAGE or IMAGE,ro`);
  return match[2] ? { image: match[1], readOnly: true } : { image: match[1] };
}

/** "on-failure", or "on-failure:3/60s": at most 3 times in 60 seconds. */
function parseRestart(text: string): Fields {
  const match = /^([a-z-]+)(?::(\d+)\/(\d+)s?)?$/.exec(text);
  if (!match) throw usageError(`--restart: '${text}' is not POLICY or POLICY:MAX/SECONDS`);
  return match[2]
    ? { policy: match[1], max: Number(match[2]), window: Number(match[3]) }
    : { policy: match[1] };
}

function readVms(file: string): Fields[] {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file === "-" ? 0 : file, "utf8"));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const message = missing ? `${file}: no such file` : `${file}: ${(error as Error).message}`;
    throw new PlinthError({ code: missing ? ErrorCode.NOT_FOUND : ErrorCode.USAGE, message, object: file });
  }
  if (!isFields(value)) throw usageError(`${file}: not a JSON object`);
  if (!("vms" in value)) return [value];
  checkFields(value, HOST_FIELDS, file);
  if (value.version !== schema.Specification.VERSION) {
    throw usageError(
      `${file}: 'version' is ${String(value.version)}, this plinth reads version ${schema.Specification.VERSION}`,
    );
  }
  if (!Array.isArray(value.vms) || value.vms.length === 0)
    throw usageError(`${file}: 'vms' is no list of VMs`);
  return value.vms.map((vm: unknown, n) => {
    if (!isFields(vm)) throw usageError(`${file}: vms[${n}] is not a JSON object`);
    return vm;
  });
}

function checkVm(fields: Fields, where: string): VmSpec {
  checkFields(fields, VM_FIELDS, where);
  const text = (key: string, needed: boolean): void => {
    const value = fields[key];
    if (value === undefined && !needed) return;
    if (typeof value !== "string" || value === "")
      throw usageError(`${where}: '${key}' is missing or no text`, "plinth help create");
  };
  text("name", true);
  text("kernel", true);
  text("initrd", false);
  if (fields.cmdline !== "") text("cmdline", false);
  const memory = fields.memory;
  if (memory === undefined)
    throw usageError(`${where}: 'memory' is missing; write for instance --memory 128M`, "plinth help create");
  const size = typeof memory === "number" ? memory : parseSize(String(memory), `${where}: memory`);
  // Explicit, because the host starts what does not say.
  const spec: Fields = { start: false, ...fields, memory: size };
  if (!Number.isSafeInteger(size) || size <= 0)
    throw usageError(`${where}: memory must be a positive number of bytes`);
  if (spec.vcpus !== undefined && !Number.isSafeInteger(spec.vcpus))
    throw usageError(`${where}: 'vcpus' is no number`);
  if (spec.start !== undefined && typeof spec.start !== "boolean")
    throw usageError(`${where}: 'start' is neither true nor false`);
  if (spec.console !== undefined && !CONSOLES.includes(String(spec.console)))
    throw usageError(`${where}: console '${String(spec.console)}' is none of ${CONSOLES.join(", ")}`);
  checkDisks(spec.disks, where);
  checkRestart(spec.restart, where);
  return spec as unknown as VmSpec;
}

function checkDisks(disks: unknown, where: string): void {
  if (disks === undefined) return;
  if (!Array.isArray(disks)) throw usageError(`${where}: 'disks' is no list like [{"image": "disk"}]`);
  disks.forEach((disk: unknown, n) => {
    const at = `${where}, disks[${n}]`;
    if (!isFields(disk)) throw usageError(`${at}: not an object like {"image": "disk"}`);
    checkFields(disk, DISK_FIELDS, at);
    if (typeof disk.image !== "string" || disk.image === "")
      throw usageError(`${at}: 'image' is missing or no text`, "plinth images");
    if (disk.readOnly !== undefined && typeof disk.readOnly !== "boolean")
      throw usageError(`${at}: 'readOnly' is neither true nor false`);
  });
}

function checkRestart(restart: unknown, where: string): void {
  if (restart === undefined) return;
  if (!isFields(restart))
    throw usageError(`${where}: 'restart' is not an object like {"policy": "on-failure"}`);
  checkFields(restart, RESTART_FIELDS, `${where}, restart`);
  if (!POLICIES.includes(String(restart.policy))) {
    throw usageError(
      `${where}: restart policy '${String(restart.policy)}' is none of ${POLICIES.join(", ")}`,
    );
  }
  for (const key of ["max", "window"]) {
    const value = restart[key];
    if (value !== undefined && !Number.isSafeInteger(value))
      throw usageError(`${where}: restart '${key}' is no number`);
  }
}

function checkFields(fields: Fields, known: readonly string[], where: string): void {
  for (const key of Object.keys(fields)) {
    if (known.includes(key)) continue;
    const meant = nearest(key, known);
    throw usageError(
      `${where}: unknown field '${key}'${meant ? `; did you mean '${meant}'?` : ""}`,
      "plinth help create",
    );
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
