// The tenants of this host: whose VMs they are, and how much all VMs of one may have together.

import {
  ErrorCode,
  FIELD_BANDWIDTH,
  FIELD_CACHE,
  FIELD_CPUS,
  FIELD_EXITS,
  FIELD_HYPERCALLS,
  FIELD_IPIS,
  FIELD_LOG,
  FIELD_MEMORY,
  FIELD_NAME,
  FIELD_VCPUS,
  FIELD_VMS,
  TENANT_DEFAULT,
  Specification,
} from "../protocol/schema";
import { BRAKE_PERIODS } from "../gen/abi";
import { brake } from "../lib/binding";
import { Fault } from "./outcome";
import { partitionsSet } from "./partitions";
import { readCpus } from "./rules";
import { bad, checkFields, isName, readText, readUint } from "./spec";
import { clean, nearest, quoted } from "./text";
import { Kind, Value } from "./value";

export const TENANT_FIELDS: string[] = [
  FIELD_NAME,
  FIELD_MEMORY,
  FIELD_VMS,
  FIELD_VCPUS,
  FIELD_CPUS,
  FIELD_EXITS,
  FIELD_IPIS,
  FIELD_HYPERCALLS,
  FIELD_LOG,
  FIELD_CACHE,
  FIELD_BANDWIDTH,
];
const MAX_QUOTA: u64 = 1 << 48;
const MAX_COUNT: u64 = 1 << 16;
const MAX_RATE: u64 = 1 << 30;
/** A stranger's, who trusts nobody; those of tenants are below. */
const MAX_NUMBER: u32 = 63;

/** A tenant; a limit of 0 is none. */
export class Tenant {
  /** Bytes of all its VMs, running or not, with their disks and what is beside them. */
  memory: u64 = 0;
  vms: u32 = 0;
  vcpus: u32 = 0;
  /** The CPUs on which its VMs run: "0-3,6"; "": all. */
  cpus: string = "";
  /** What its VMs may cause together in a second. */
  exits: u32 = 0;
  ipis: u32 = 0;
  /** And what their device models may ask of the kernel, and write to its log, in bytes. */
  hypercalls: u32 = 0;
  log: u32 = 0;
  /** Percent: of the last-level cache, which nobody else has; of the memory bandwidth, at most. */
  cache: u32 = 0;
  bandwidth: u32 = 0;
  /** By which the kernel knows it, as long as it is there; 0: it has none yet. */
  number: u32 = 0;

  constructor(public name: string) {}

  copyLimits(from: Tenant): void {
    this.memory = from.memory;
    this.vms = from.vms;
    this.vcpus = from.vcpus;
    this.cpus = from.cpus;
    this.exits = from.exits;
    this.ipis = from.ipis;
    this.hypercalls = from.hypercalls;
    this.log = from.log;
    this.cache = from.cache;
    this.bandwidth = from.bandwidth;
  }

  toValue(): Value {
    const value = Value.map().putText(FIELD_NAME, this.name);
    if (this.memory > 0) value.putUint(FIELD_MEMORY, this.memory);
    if (this.vms > 0) value.putUint(FIELD_VMS, this.vms);
    if (this.vcpus > 0) value.putUint(FIELD_VCPUS, this.vcpus);
    if (this.cpus != "") value.putText(FIELD_CPUS, this.cpus);
    if (this.exits > 0) value.putUint(FIELD_EXITS, this.exits);
    if (this.ipis > 0) value.putUint(FIELD_IPIS, this.ipis);
    if (this.hypercalls > 0) value.putUint(FIELD_HYPERCALLS, this.hypercalls);
    if (this.log > 0) value.putUint(FIELD_LOG, this.log);
    if (this.cache > 0) value.putUint(FIELD_CACHE, this.cache);
    if (this.bandwidth > 0) value.putUint(FIELD_BANDWIDTH, this.bandwidth);
    return value;
  }
}

let tenants: Tenant[] = [new Tenant(TENANT_DEFAULT)];

/** All tenants, in the order of the specification. */
export function tenantsAll(): Tenant[] {
  return tenants;
}

/**
 * Those that were there keep their numbers; others get free ones, from 1 on: 0 is the host's own. VMs of a tenant that
 * goes may be there for as long as others are set, so its number is not free before the next time.
 */
export function tenantsSet(list: Tenant[]): void {
  let used: u64 = 1;
  for (let i = 0; i < tenants.length; i++) used |= (<u64>1) << tenants[i].number;
  for (let i = 0; i < list.length; i++) {
    const old = tenantFind(list[i].name);
    if (old != null && list[i].number == 0) list[i].number = old.number;
    used |= (<u64>1) << list[i].number;
  }
  for (let i = 0; i < list.length; i++) {
    if (list[i].number == 0) list[i].number = <u32>ctz(~used);
    used |= (<u64>1) << list[i].number;
  }
  for (let i = 0; i < tenants.length; i++) brake(tenants[i].number, 0, 0, 0, 0);
  for (let i = 0; i < list.length; i++) {
    const tenant = list[i];
    const calls = perPeriod(tenant.hypercalls);
    brake(tenant.number, perPeriod(tenant.exits), perPeriod(tenant.ipis), calls, tenant.log);
  }
  partitionsSet(tenants, list);
  tenants = list;
}

function perPeriod(rate: u32): u64 {
  return rate == 0 ? 0 : max<u64>(rate / BRAKE_PERIODS, 1);
}

/** The number of a tenant that is there. */
export function tenantNumber(name: string): u32 {
  const tenant = tenantFind(name);
  if (tenant == null) return MAX_NUMBER;
  if (tenant.number == 0) tenantsSet(tenants);
  return tenant.number;
}

/** Their numbers, in their order, for a successor; and back. */
export function tenantNumbers(): Value {
  const list = Value.list();
  for (let i = 0; i < tenants.length; i++) list.add(Value.uint(tenantNumber(tenants[i].name)));
  return list;
}

export function tenantsNumber(list: Tenant[], numbers: Value[]): void {
  for (let i = 0; i < list.length && i < numbers.length; i++)
    if (numbers[i].number < MAX_NUMBER) list[i].number = <u32>numbers[i].number;
}

export function tenantFind(name: string): Tenant | null {
  for (let i = 0; i < tenants.length; i++) if (tenants[i].name == name) return tenants[i];
  return null;
}

export function tenantNames(): string[] {
  return tenants.map<string>((tenant: Tenant): string => tenant.name);
}

/** The fault for a tenant that does not exist; `vm`: for which that matters, "": none. */
export function noSuchTenant(vm: string, name: string): Fault {
  const near = nearest(name, tenantNames());
  const hint = near != "" ? ", did you mean " + quoted(near) + "?" : "";
  const text = (vm != "" ? "VM " + quoted(vm) + ": " : "") + "there is no tenant " + quoted(name) + hint;
  return new Fault(ErrorCode.NOT_FOUND, text, vm != "" ? vm : clean(name, 60), "tenants");
}

export function tenantsToValue(): Value {
  const list = Value.list();
  for (let i = 0; i < tenants.length; i++) list.add(tenants[i].toValue());
  return list;
}

function readTenant(value: Value, what: string): Tenant {
  const tenant = new Tenant("");
  if (value.kind != Kind.MAP) {
    bad(what + " is not a map of name and limits");
    return tenant;
  }
  checkFields(value, TENANT_FIELDS, " in " + what);
  tenant.name = readText(value, FIELD_NAME, Specification.MAX_NAME, "");
  if (!isName(tenant.name)) bad("there is no name, or it is none, in " + what);
  readLimits(value, tenant, 1);
  return tenant;
}

/** Reads what of a tenant's limits is there; the smallest is `low`. What is wrong is told by bad(). */
export function readLimits(value: Value, tenant: Tenant, low: u64): void {
  tenant.memory = readUint(value, FIELD_MEMORY, low, MAX_QUOTA, tenant.memory);
  tenant.vms = <u32>readUint(value, FIELD_VMS, low, MAX_COUNT, tenant.vms);
  tenant.vcpus = <u32>readUint(value, FIELD_VCPUS, low, MAX_COUNT, tenant.vcpus);
  tenant.exits = <u32>readUint(value, FIELD_EXITS, low, MAX_RATE, tenant.exits);
  tenant.ipis = <u32>readUint(value, FIELD_IPIS, low, MAX_RATE, tenant.ipis);
  tenant.hypercalls = <u32>readUint(value, FIELD_HYPERCALLS, low, MAX_RATE, tenant.hypercalls);
  tenant.log = <u32>readUint(value, FIELD_LOG, low, MAX_RATE, tenant.log);
  tenant.cache = <u32>readUint(value, FIELD_CACHE, low, 100, tenant.cache);
  tenant.bandwidth = <u32>readUint(value, FIELD_BANDWIDTH, low, 100, tenant.bandwidth);
  if (value.get(FIELD_CPUS) != null) tenant.cpus = readCpus(value);
}

/** Reads a list of tenants, and adds the default one if it is not there. What is wrong is told by bad(). */
export function readTenants(list: Value | null): Tenant[] {
  const out: Tenant[] = [];
  if (list != null && list.kind != Kind.LIST) bad("tenants is not a list");
  const count = list != null && list.kind == Kind.LIST ? list.items.length : 0;
  if (count > <i32>Specification.MAX_TENANTS)
    bad("there are more than " + (<i32>Specification.MAX_TENANTS).toString() + " tenants");
  let hasDefault = false;
  for (let i = 0; i < count && i < <i32>Specification.MAX_TENANTS; i++) {
    const tenant = readTenant(list!.items[i], "tenants[" + i.toString() + "]");
    for (let n = 0; n < out.length; n++)
      if (out[n].name == tenant.name) bad("there are two tenants " + quoted(tenant.name));
    hasDefault = hasDefault || tenant.name == TENANT_DEFAULT;
    out.push(tenant);
  }
  if (!hasDefault) out.unshift(new Tenant(TENANT_DEFAULT));
  return out;
}
