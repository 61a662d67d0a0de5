// Reads what VMs and hosts should be, from options or from a file, and checks what can be checked here.

import { type Message, cborEncode } from "../protocol/node/cbor";
import { cpuList } from "../protocol/cpus";
import * as schema from "../protocol/schema";
import type { Arguments } from "./arguments";
import { type PlinthError, usageError } from "./errors";
import { nearest } from "./nearest";
import type { MitigationsSpec, RuleSpec, TenantSpec, VmSpec } from "./results";
import { isFields, schemaProblem } from "./schema-check";
import { type Fields, readSpecFile } from "./spec-file";
import { HOST_SCHEMA, SIZES, VM_SCHEMA } from "./spec-schema";
import { optionFields } from "./spec-options";
import { parseSize } from "./values";

/** The VMs that `plinth create` was asked for: at least one. */
export function specsFromArguments(args: Arguments): VmSpec[] {
  const file = args.value("file");
  const name = args.operands[0];
  const changes = optionFields(args);
  const notStarted = { start: false };
  if (file === undefined) {
    if (name === undefined) throw usageError("'plinth create' needs NAME or --file", "plinth help create");
    return [completeVm({ name, ...notStarted, ...changes }, `VM '${name}'`)];
  }
  const vms = readVms(file);
  if (vms.length > 1 && (name !== undefined || Object.keys(changes).length > 0)) {
    throw usageError(`${file} holds ${vms.length} VMs, so NAME and options cannot change one of them`);
  }
  return vms.map((vm) =>
    completeVm(
      { ...notStarted, ...vm, ...(name ? { name } : {}), ...changes },
      `${file}, VM '${String(vm.name ?? name)}'`,
    ),
  );
}

/** A whole host: what the boot module `spec` holds, and what `apply` makes of a host. */
export interface HostSpec {
  version: number;
  host?: { name?: string };
  tenants?: TenantSpec[];
  rules?: RuleSpec[];
  mitigations?: MitigationsSpec;
  vms: VmSpec[];
}

/** A host specification, checked as far as can be done without the host. */
export function readHostSpec(file: string): HostSpec {
  return hostSpecOf(readSpecFile(file), file);
}

/** The specification that a file holds; `file` is for messages. */
export function hostSpecOf(value: Fields, file: string): HostSpec {
  if (!("vms" in value))
    throw usageError(`${file}: a host specification has 'version', 'host' and 'vms'`, "plinth help apply");
  const { version, host, tenants, rules, mitigations, profiles, vms } = checkHost(value, file);
  return {
    version: version as number,
    ...(host ? { host } : {}),
    ...(tenants ? { tenants: (tenants as Fields[]).map((tenant) => completeTenant(tenant, file)) } : {}),
    ...(rules ? { rules } : {}),
    ...(mitigations ? { mitigations } : {}),
    vms: (vms as Fields[]).map((vm) => {
      const where = `${file}, VM '${String(vm.name)}'`;
      return completeVm({ start: true, ...withProfile(vm, profiles, where) }, where);
    }),
  } as HostSpec;
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

/** The VMs of a file for `create`: a host specification's, or the one that it is. */
function readVms(file: string): Fields[] {
  const value = readSpecFile(file);
  if (!("vms" in value)) return [value];
  const { profiles, vms } = checkHost(value, file);
  if ((vms as Fields[]).length === 0) throw usageError(`${file}: 'vms' has no VM`);
  return (vms as Fields[]).map((vm) => withProfile(vm, profiles, `${file}, VM '${String(vm.name)}'`));
}

function checkHost(value: Fields, file: string): Fields {
  if (value.version !== undefined && value.version !== schema.Specification.VERSION) {
    throw usageError(
      `${file}: 'version' is ${String(value.version)}, this plinth reads version ${schema.Specification.VERSION}`,
    );
  }
  // VMs first, since a message has a VM's name rather than its place.
  for (const vm of Array.isArray(value.vms) ? (value.vms as unknown[]) : []) {
    if (!isFields(vm) || typeof vm.name !== "string") continue;
    const problem = schemaProblem(vm, { $ref: "#/$defs/vm" }, HOST_SCHEMA);
    if (problem) throw wrong(`${file}, VM '${vm.name}'`, problem);
  }
  const problem = schemaProblem(value, HOST_SCHEMA);
  if (problem) throw wrong(file, problem);
  return value;
}

function wrong(where: string, problem: string): PlinthError {
  return usageError(`${where}: ${problem}`, "plinth help create");
}

/** A VM with the fields of its profile, where it has none of its own. */
function withProfile(vm: Fields, profiles: unknown, where: string): Fields {
  const { profile, ...own } = vm;
  if (profile === undefined) return vm;
  const known = isFields(profiles) ? profiles : {};
  const found = Object.hasOwn(known, String(profile)) ? known[String(profile)] : undefined;
  if (isFields(found)) return { ...found, ...own };
  const meant = nearest(String(profile), Object.keys(known));
  throw wrong(where, `there is no profile '${String(profile)}'${meant ? `; did you mean '${meant}'?` : ""}`);
}

/** Fields with sizes in bytes. */
function withBytes(fields: Fields, where: string): Fields {
  const out = { ...fields };
  for (const key of SIZES)
    if (typeof out[key] === "string") out[key] = parseSize(out[key], `${where}: ${key}`);
  const { balloon } = out;
  if (isFields(balloon)) out.balloon = withBytes(balloon, `${where}, balloon`);
  return out;
}

/** A tenant with its sizes in bytes. */
function completeTenant(fields: Fields, file: string): TenantSpec {
  const where = `${file}, tenant '${String(fields.name)}'`;
  const tenant = withBytes(fields, where) as unknown as TenantSpec;
  if (tenant.cpus !== undefined && cpuList(tenant.cpus).length === 0)
    throw wrong(where, `cpus '${tenant.cpus}' is no set of CPUs in rising order, like 0-3,6`);
  return tenant;
}

/** A VM in full, as the host reads it. */
function completeVm(fields: Fields, where: string): VmSpec {
  const vm = withBytes(fields, where);
  const problem = schemaProblem(vm, VM_SCHEMA);
  if (problem) throw wrong(where, problem);
  const spec = vm as unknown as VmSpec;
  const { balloon = {} } = spec;
  const { size = spec.memory, floor = size } = typeof balloon === "number" ? { size: balloon } : balloon;
  if (size > spec.memory)
    throw wrong(where, "balloon must be no more than memory: it is what is left to the VM");
  if (floor > size)
    throw wrong(where, "balloon.floor must be no more than what the balloon leaves to the VM");
  return spec;
}
