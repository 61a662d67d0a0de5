// Reads what a VM should be, from options or from a JSON file, and checks what can be checked here.

import { readFileSync } from "node:fs";
import { type Message, cborEncode } from "../protocol/node/cbor";
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
  "balloon",
  "vcpus",
  "kernel",
  "initrd",
  "firmware",
  "cmdline",
  "boot",
  "modules",
  "debugExit",
  "console",
  "disks",
  "networks",
  "ports",
  "rings",
  "start",
  "restart",
];
const HOST_FIELDS = ["version", "host", "vms"];
const MODULE_FIELDS = ["image", "cmdline"];
const DISK_FIELDS = ["image", "readOnly", "cdrom"];
const NETWORK_FIELDS = ["network", "mac"];
const RESTART_FIELDS = ["policy", "max", "window"];
const CONSOLES = [schema.CONSOLE_SERIAL, schema.CONSOLE_VIRTIO];
export const BOOTS = [
  schema.BOOT_AUTO,
  schema.BOOT_LINUX,
  schema.BOOT_LINUX32,
  schema.BOOT_PVH,
  schema.BOOT_MULTIBOOT,
  schema.BOOT_MULTIBOOT2,
  schema.BOOT_FIRMWARE,
];
const RINGS = [schema.RINGS_PACKED, schema.RINGS_SPLIT];
const POLICIES = [schema.POLICY_NEVER, schema.POLICY_ON_FAILURE, schema.POLICY_ALWAYS];

/** An Ethernet address of one card, not of a group. */
const MAC = /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i;

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
  for (const key of [
    "kernel",
    "initrd",
    "firmware",
    "cmdline",
    "boot",
    "console",
    "memory",
    "balloon",
    "rings",
  ]) {
    const value = args.value(key);
    if (value !== undefined) fields[key] = value;
  }
  const vcpus = args.value("vcpus");
  if (vcpus !== undefined) fields.vcpus = parseNumber(vcpus, "--vcpus");
  const modules = args.values("module").map(parseModule);
  if (modules.length > 0) fields.modules = modules;
  if (args.has("debug-exit")) fields.debugExit = true;
  const disks = args.values("disk").map(parseDisk);
  if (disks.length > 0) fields.disks = disks;
  const networks = args.values("network").map(parseNetwork);
  if (networks.length > 0) fields.networks = networks;
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
function parseRestart(text: string): Fields {
  const match = /^([a-z-]+)(?::(\d+)\/(\d+)s?)?$/.exec(text);
  if (!match) throw usageError(`--restart: '${text}' is not POLICY or POLICY:MAX/SECONDS`);
  return match[2]
    ? { policy: match[1], max: Number(match[2]), window: Number(match[3]) }
    : { policy: match[1] };
}

/** What the boot module `spec` holds: a whole host. */
export interface HostSpec {
  vms: VmSpec[];
}

/** A host specification, checked as far as can be done without the host. */
export function readHostSpec(file: string): HostSpec {
  const value = readJson(file);
  if (!("vms" in value)) throw usageError(`${file}: a host specification has 'version', 'host' and 'vms'`);
  const vms = vmsOf(value, file).map((vm) =>
    // What does not say is started.
    checkVm({ start: true, ...vm }, `${file}, VM '${String(vm.name)}'`),
  );
  return { ...value, vms };
}

/** The boot module. */
export function encodeHostSpec(spec: HostSpec): Uint8Array {
  return cborEncode(spec as unknown as Message);
}

/** The images that a VM names. */
export function imagesOf(vm: VmSpec): string[] {
  const lists = [...(vm.modules ?? []), ...(vm.disks ?? [])].map(({ image }) => image);
  return [vm.kernel, vm.initrd, vm.firmware, ...lists].filter((name) => name !== undefined);
}

function readVms(file: string): Fields[] {
  const value = readJson(file);
  const vms = "vms" in value ? vmsOf(value, file) : [value];
  if (vms.length === 0) throw usageError(`${file}: 'vms' has no VM`);
  return vms;
}

function readJson(file: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file === "-" ? 0 : file, "utf8"));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const message = missing ? `${file}: no such file` : `${file}: ${(error as Error).message}`;
    throw new PlinthError({ code: missing ? ErrorCode.NOT_FOUND : ErrorCode.USAGE, message, object: file });
  }
  if (!isFields(value)) throw usageError(`${file}: not a JSON object`);
  return value;
}

function vmsOf(value: Fields, file: string): Fields[] {
  checkFields(value, HOST_FIELDS, file);
  if (value.version !== schema.Specification.VERSION) {
    throw usageError(
      `${file}: 'version' is ${String(value.version)}, this plinth reads version ${schema.Specification.VERSION}`,
    );
  }
  if (!Array.isArray(value.vms)) throw usageError(`${file}: 'vms' is no list of VMs`);
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
  text("kernel", fields.firmware === undefined);
  text("firmware", false);
  if (fields.kernel !== undefined && fields.firmware !== undefined)
    throw usageError(`${where}: it starts from 'kernel' or from 'firmware', not both`, "plinth help create");
  text("initrd", false);
  if (fields.cmdline !== "") text("cmdline", false);
  if (fields.memory === undefined)
    throw usageError(`${where}: 'memory' is missing; write for instance --memory 128M`, "plinth help create");
  // `start` explicitly, because the host starts what does not say.
  const spec: Fields = { start: false, ...fields };
  for (const key of ["memory", "balloon"]) {
    const value = fields[key];
    if (value === undefined) continue;
    const size = typeof value === "number" ? value : parseSize(String(value), `${where}: ${key}`);
    if (!Number.isSafeInteger(size) || size <= 0)
      throw usageError(`${where}: ${key} must be a positive number of bytes`);
    spec[key] = size;
  }
  if (Number(spec.balloon) > Number(spec.memory))
    throw usageError(`${where}: balloon must be no more than memory: it is what is left to the VM`);
  if (spec.vcpus !== undefined && !Number.isSafeInteger(spec.vcpus))
    throw usageError(`${where}: 'vcpus' is no number`);
  if (spec.start !== undefined && typeof spec.start !== "boolean")
    throw usageError(`${where}: 'start' is neither true nor false`);
  if (spec.console !== undefined && !CONSOLES.includes(String(spec.console)))
    throw usageError(`${where}: console '${String(spec.console)}' is none of ${CONSOLES.join(", ")}`);
  if (spec.boot !== undefined && !BOOTS.includes(String(spec.boot)))
    throw usageError(`${where}: boot '${String(spec.boot)}' is none of ${BOOTS.join(", ")}`);
  if (spec.debugExit !== undefined && typeof spec.debugExit !== "boolean")
    throw usageError(`${where}: 'debugExit' is neither true nor false`);
  checkModules(spec.modules, where);
  checkDisks(spec.disks, where);
  checkNetworks(spec.networks, where);
  checkPorts(spec.ports, where);
  if (spec.rings !== undefined && !RINGS.includes(String(spec.rings)))
    throw usageError(`${where}: rings '${String(spec.rings)}' is none of ${RINGS.join(", ")}`);
  checkRestart(spec.restart, where);
  return spec as unknown as VmSpec;
}

function checkModules(modules: unknown, where: string): void {
  if (modules === undefined) return;
  if (!Array.isArray(modules)) throw usageError(`${where}: 'modules' is no list like [{"image": "module"}]`);
  modules.forEach((module: unknown, n) => {
    const at = `${where}, modules[${n}]`;
    if (!isFields(module)) throw usageError(`${at}: not an object like {"image": "module"}`);
    checkFields(module, MODULE_FIELDS, at);
    if (typeof module.image !== "string" || module.image === "")
      throw usageError(`${at}: 'image' is missing or no text`, "plinth images");
    if (module.cmdline !== undefined && typeof module.cmdline !== "string")
      throw usageError(`${at}: 'cmdline' is no text`);
  });
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
    for (const field of ["readOnly", "cdrom"])
      if (disk[field] !== undefined && typeof disk[field] !== "boolean")
        throw usageError(`${at}: '${field}' is neither true nor false`);
  });
}

function checkPorts(ports: unknown, where: string): void {
  if (ports === undefined) return;
  if (!Array.isArray(ports) || ports.some((name: unknown) => typeof name !== "string" || name === ""))
    throw usageError(`${where}: 'ports' is no list of names like ["data"]`);
}

function checkNetworks(networks: unknown, where: string): void {
  if (networks === undefined) return;
  if (!Array.isArray(networks)) throw usageError(`${where}: 'networks' is no list like [{"network": "lan"}]`);
  networks.forEach((card: unknown, n) => {
    const at = `${where}, networks[${n}]`;
    if (!isFields(card)) throw usageError(`${at}: not an object like {"network": "lan"}`);
    checkFields(card, NETWORK_FIELDS, at);
    if (typeof card.network !== "string" || card.network === "")
      throw usageError(`${at}: 'network' is missing or no text`);
    if (card.mac !== undefined && !MAC.test(String(card.mac)))
      throw usageError(
        `${at}: mac '${String(card.mac)}' is not the address of one card, like 52:54:00:12:34:56`,
      );
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
