/*
 * The planner: from what a host has and what a specification wants to the steps between them, or to what forbids it.
 *
 * One source for the control domain, which does the steps, and for Node, which checks a file without a host. It is
 * written in the subset of TypeScript that asc, esbuild and tsc all accept; portable.d.ts tells tsc of i32 and i64.
 */

import {
  ACTION_CHANGE,
  ACTION_CREATE,
  ACTION_HOST,
  ACTION_REMOVE,
  ACTION_REPLACE,
  ACTION_RESTART,
  ACTION_START,
  ErrorCode,
  FIELD_BALLOON,
  FIELD_CPUS,
  FIELD_DISKS,
  FIELD_HOST,
  FIELD_NODE,
  FIELD_PROTECTED,
  FIELD_RESERVE,
  FIELD_RESTART,
  FIELD_SCALE,
  FIELD_SCHEDULING,
  FIELD_START,
  FIELD_TAGS,
  SCHEDULING_DEDICATED,
  SCHEDULING_RESERVED,
  DENIED_CACHES,
  DENIED_CORES,
  DENIED_LIMITS,
  DENIED_NETWORKS,
  DENIED_PROTECTED,
  TENANT_DEFAULT,
  Specification,
} from "./schema";
import { CONTROL_PERCENT } from "../gen/abi";
import { cpuList, SHARE_FIELDS } from "./cpus";
import { mayShare, ruleText, SHARE_CACHES, SHARE_CORES, SHARE_NETWORKS, ShareRule } from "./rules";

const MIB: i64 = 1048576;
const KIB: i64 = 1024;
/** Longer values are not quoted in a reason. */
const MAX_SHOWN: i32 = 48;
/** After so much of a reason, further fields are only counted. */
const MAX_REASON: i32 = 200;

/** What changes while a VM runs. */
const LIVE_FIELDS: string[] = [
  FIELD_TAGS,
  FIELD_PROTECTED,
  FIELD_RESTART,
  FIELD_SCALE,
  FIELD_BALLOON,
  FIELD_START,
].concat(SHARE_FIELDS);

/** Why a specification cannot be. `next` is a command of the shell and of the tool. */
export class Refusal {
  /** What the policy denies, and to which tenant; "": it is no denial. */
  denied: string = "";
  tenant: string = "";

  constructor(
    public code: i32,
    public message: string,
    public object: string,
    public next: string,
  ) {}
}

/** A tenant; a limit of 0 is none. */
export class PlanTenant {
  memory: i64 = 0;
  vms: i32 = 0;
  vcpus: i32 = 0;
  /** The CPUs on which its VMs run: "0-3"; "": all. */
  cpus: string = "";
  /** What its VMs may cause in a second. */
  exits: i32 = 0;
  ipis: i32 = 0;
  /** And what their device models may ask of the kernel, and write to its log, in bytes. */
  hypercalls: i32 = 0;
  log: i32 = 0;
  /** Percent of the last-level cache for itself, and of the memory bandwidth, at most. */
  cache: i32 = 0;
  bandwidth: i32 = 0;
  /** Bytes that its snapshots count for it. */
  snapshots: i64 = 0;

  constructor(public name: string) {}
}

/** A VM that there is, or that is wanted. */
export class PlanVm {
  tenant: string = TENANT_DEFAULT;
  vcpus: i32 = 1;
  /** Bytes that count for its tenant. */
  cost: i64 = 0;
  /** Bytes that its start takes from the host, and that its end gives back. */
  needs: i64 = 0;
  frees: i64 = 0;
  guarded: boolean = false;
  /** Wanted: it should be up. */
  start: boolean = true;
  /** There is: it is up. */
  up: boolean = false;
  /** There is, up, but it stands still: another host has it, and nothing but its removal is possible here. */
  moved: boolean = false;
  /** There is, up: the place of the node that its memory is of; -1: of any. */
  node: i32 = -1;
  /** Its specification: names of fields, and the value of each as text. */
  fields: string[] = [];
  texts: string[] = [];
  networks: string[] = [];
  /** For policy hooks: its memory in bytes, and its tags. */
  memory: i64 = 0;
  tags: string[] = [];
  /** What makes it impossible on this host, whatever else there is: an image that is missing. */
  refusal: Refusal | null = null;

  constructor(public name: string) {}

  set(field: string, text: string): void {
    this.fields.push(field);
    this.texts.push(text);
  }

  get(field: string): string {
    const index = this.fields.indexOf(field);
    return index < 0 ? "none" : item(this.texts, index);
  }
}

/** A NUMA node that has memory. */
export class PlanNode {
  /** CPUs by their numbers; none: not known. */
  cpus: i32[] = [];
  /** Of the VMs that are for it. */
  vcpus: i32 = 0;

  constructor(
    /** What the firmware calls it. */
    public id: i64,
    /** Bytes. */
    public free: i64,
  ) {}
}

export class PlanHost {
  name: string = "";
  tenants: PlanTenant[] = [];
  vms: PlanVm[] = [];
  rules: ShareRule[] = [];
  /** What is done between guests on a CPU, as text. */
  mitigations: string = "";
  /** Bytes that new VMs can have. */
  free: i64 = 0;
  /** The core and the last-level cache of each CPU; none: not known. */
  cores: i32[] = [];
  caches: i32[] = [];
  /** CPUs; 0: nobody knows. */
  cpus: i32 = 0;
  nodes: PlanNode[] = [];
  /** Classes of service, one of which is the host's; 0: the CPU has none; -1: nobody knows. */
  services: i32 = -1;
  /** Ways of the last-level cache, and percent by which memory accesses can be delayed; 0: no such allocation. */
  ways: i32 = 0;
  delay: i32 = 0;
}

export class Step {
  constructor(
    public action: string,
    /** A VM, a tenant, or "host". */
    public object: string,
    public reason: string,
    /** Whether a VM that runs is ended. */
    public ends: boolean,
  ) {}
}

export class Plan {
  steps: Step[] = [];
  refusals: Refusal[] = [];

  refuse(code: i32, message: string, object: string, next: string): void {
    this.refusals.push(new Refusal(code, message, object, next));
  }

  /** What a tenant may not have. */
  deny(kind: string, tenant: string, message: string, object: string, next: string): void {
    const refusal = new Refusal(ErrorCode.DENIED, message, object, next);
    refusal.denied = kind;
    refusal.tenant = tenant;
    this.refusals.push(refusal);
  }
}

/** An item that is there: its index was checked. */
function item<T>(list: T[], index: i32): T {
  return list[index] as T;
}

/** A size in full: "128 MiB", "131076 KiB", "5 B". */
export function exactSize(bytes: i64): string {
  if (bytes % MIB == 0) return (bytes / MIB).toString() + " MiB";
  return bytes % KIB == 0 ? (bytes / KIB).toString() + " KiB" : bytes.toString() + " B";
}

/** A size for people: "128.5 MiB". */
function sizeText(bytes: i64): string {
  const rest: i64 = bytes % MIB;
  const tenths: i64 = rest * 10;
  return ((bytes - rest) / MIB).toString() + "." + ((tenths - (tenths % MIB)) / MIB).toString() + " MiB";
}

function quote(name: string): string {
  return '"' + name + '"';
}

function plural(count: i32, noun: string): string {
  return count.toString() + " " + noun + (count == 1 ? "" : "s");
}

export function findVm(vms: PlanVm[], name: string): PlanVm | null {
  for (let i = 0; i < vms.length; i++) if (item(vms, i).name == name) return item(vms, i);
  return null;
}

function findTenant(tenants: PlanTenant[], name: string): PlanTenant | null {
  for (let i = 0; i < tenants.length; i++) if (item(tenants, i).name == name) return item(tenants, i);
  return null;
}

/** The steps from what there is to what is wanted. With a refusal none of them may be done. */
export function planChange(have: PlanHost, want: PlanHost): Plan {
  const plan = new Plan();
  checkNames(want, plan);
  checkTenants(want, plan);
  checkNetworks(want, plan);
  checkIsolation(have, want, plan);
  planHost(have, want, plan);
  planKept(have, want, plan, ACTION_CHANGE);
  planRemoved(have, want, plan);
  planKept(have, want, plan, ACTION_RESTART);
  planKept(have, want, plan, ACTION_REPLACE);
  planCreated(have, want, plan);
  planKept(have, want, plan, ACTION_START);
  checkCount(have, plan);
  checkMemory(have, want, plan);
  checkCpus(have, want, plan);
  return plan;
}

function checkNames(want: PlanHost, plan: Plan): void {
  for (let i = 0; i < want.vms.length; i++) {
    const vm = item(want.vms, i);
    if (findVm(want.vms, vm.name) != vm)
      plan.refuse(
        ErrorCode.USAGE,
        "VM " + quote(vm.name) + ": there are two of that name",
        vm.name,
        "help apply",
      );
    const refusal = vm.refusal;
    if (refusal != null) plan.refusals.push(refusal);
  }
}

function checkTenants(want: PlanHost, plan: Plan): void {
  for (let i = 0; i < want.vms.length; i++) {
    const vm = item(want.vms, i);
    if (findTenant(want.tenants, vm.tenant) != null) continue;
    const text = "VM " + quote(vm.name) + ": there is no tenant " + quote(vm.tenant);
    plan.refuse(ErrorCode.NOT_FOUND, text, vm.name, "tenants");
  }
  for (let i = 0; i < want.tenants.length; i++) checkQuota(item(want.tenants, i), want.vms, plan);
}

/** Whether all VMs of a tenant are within its limits. */
export function checkQuota(tenant: PlanTenant, vms: PlanVm[], plan: Plan): void {
  let memory: i64 = tenant.snapshots;
  let count: i32 = 0;
  let vcpus: i32 = 0;
  for (let i = 0; i < vms.length; i++) {
    const vm = item(vms, i);
    if (vm.tenant != tenant.name) continue;
    memory += vm.cost;
    vcpus += vm.vcpus;
    count++;
  }
  const subject = "tenant " + quote(tenant.name) + ": its " + plural(count, "VM") + " ";
  const beside = tenant.snapshots > 0 ? "and snapshots " : "";
  if (tenant.memory > 0 && memory > tenant.memory)
    over(
      plan,
      tenant,
      subject + beside + "need " + sizeText(memory) + ", it may have " + sizeText(tenant.memory),
    );
  if (tenant.vms > 0 && count > tenant.vms)
    over(plan, tenant, subject + "are more than the " + tenant.vms.toString() + " that it may have");
  if (tenant.vcpus > 0 && vcpus > tenant.vcpus)
    over(
      plan,
      tenant,
      subject + "have " + plural(vcpus, "vCPU") + ", it may have " + tenant.vcpus.toString(),
    );
}

function over(plan: Plan, tenant: PlanTenant, text: string): void {
  plan.deny(DENIED_LIMITS, tenant.name, text, tenant.name, "tenants");
}

/** Nothing is shared between tenants but by a rule. `have` knows the host's CPUs. */
export function checkIsolation(have: PlanHost, want: PlanHost, plan: Plan): void {
  for (let i = 0; i < want.rules.length; i++) {
    const names = item(want.rules, i).tenants;
    for (let n = 0; n < names.length; n++)
      if (findTenant(want.tenants, item(names, n)) == null)
        plan.refuse(
          ErrorCode.NOT_FOUND,
          "rules[" + i.toString() + "]: there is no tenant " + quote(item(names, n)),
          item(names, n),
          "tenants",
        );
  }
  for (let i = 0; i < want.vms.length; i++)
    for (let n = 0; n < i; n++) checkCables(want, item(want.vms, n), item(want.vms, i), plan);
  for (let i = 0; i < want.tenants.length; i++) checkRange(have, item(want.tenants, i), plan);
  checkPartitions(have, want, plan);
  for (let i = 0; i < want.tenants.length; i++)
    for (let n = 0; n < i; n++) checkParts(have, want, item(want.tenants, n), item(want.tenants, i), plan);
}

/** Whole ways of a cache that are a percentage of it, at least. */
export function cacheWays(percent: i32, ways: i32): i32 {
  const parts: i32 = percent * ways + 99;
  return ((parts - (parts % 100)) / 100) as i32;
}

/** The parts of caches and memory bandwidth are there; one way and one class stay for the host and all others. */
function checkPartitions(have: PlanHost, want: PlanHost, plan: Plan): void {
  let ways: i32 = 1;
  let services: i32 = 1;
  for (let i = 0; i < want.tenants.length && have.services >= 0; i++) {
    const tenant = item(want.tenants, i);
    if (tenant.cache == 0 && tenant.bandwidth == 0) continue;
    ways += cacheWays(tenant.cache, have.ways);
    services++;
    let text = "";
    if (tenant.cache > 0 && have.ways == 0) text = "it has a part of the cache, and this CPU has no L3 CAT";
    else if (tenant.bandwidth > 0 && have.delay == 0)
      text = "it has a part of the memory bandwidth, and this CPU has no linear MBA";
    else if (tenant.bandwidth > 0 && 100 - tenant.bandwidth > have.delay)
      text =
        "bandwidth is " + tenant.bandwidth.toString() + " %, the least is " + (100 - have.delay).toString();
    else if (services > have.services)
      text = "no class of service is left for it, of " + (have.services - 1).toString();
    else if (tenant.cache > 0 && ways > have.ways)
      text =
        "with it, tenants have " +
        (ways - 1).toString() +
        " of " +
        plural(have.ways, "way") +
        " of the cache, and one must be left for all others";
    if (text == "") continue;
    plan.refuse(ErrorCode.FAILED, "tenant " + quote(tenant.name) + ": " + text, tenant.name, "hardware");
  }
}

function checkCables(want: PlanHost, first: PlanVm, second: PlanVm, plan: Plan): void {
  if (mayShare(want.rules, first.tenant, second.tenant, SHARE_NETWORKS)) return;
  for (let n = 0; n < second.networks.length; n++) {
    const network = item(second.networks, n);
    if (first.networks.indexOf(network) < 0 || second.networks.indexOf(network) != n) continue;
    const subject = "VM " + quote(second.name) + ": ";
    const text = cableText(network, first.name, first.tenant, second.tenant);
    plan.deny(DENIED_NETWORKS, second.tenant, subject + text, second.name, "policy check");
  }
}

/** Why a network may not have a card of this tenant. */
export function cableText(network: string, vm: string, tenant: string, own: string): string {
  const text = "network " + quote(network) + " has a card of " + quote(vm) + ", which is tenant ";
  return text + quote(tenant) + "'s; it needs the rule " + ruleText(tenant, own, SHARE_NETWORKS);
}

/** A tenant's CPUs are there. */
function checkRange(have: PlanHost, tenant: PlanTenant, plan: Plan): void {
  const cpus = cpuList(tenant.cpus);
  const count: i32 = have.cores.length;
  if (tenant.cpus == "" || cpus.length == 0 || count == 0 || item(cpus, cpus.length - 1) < count) return;
  const text = "tenant " + quote(tenant.name) + ": its CPUs are " + tenant.cpus + ", the host has ";
  plan.refuse(ErrorCode.FAILED, text + plural(count, "CPU"), tenant.name, "hardware");
}

/** Tenants that say where they run do not share CPUs, cores or caches. */
function checkParts(have: PlanHost, want: PlanHost, one: PlanTenant, other: PlanTenant, plan: Plan): void {
  if (one.cpus == "" || other.cpus == "") return;
  const first = cpuList(one.cpus);
  const second = cpuList(other.cpus);
  const subject = "tenant " + quote(other.name) + ": ";
  const cpu = sharedUnit(first, second, have.cores);
  if (cpu >= 0 && !mayShare(want.rules, one.name, other.name, SHARE_CORES)) {
    const same = first.indexOf(cpu) >= 0;
    const text = same
      ? "CPU " + cpu.toString() + " is tenant " + quote(one.name) + "'s too"
      : "CPU " + cpu.toString() + " is a thread of a core of tenant " + quote(one.name);
    const rule = "; it needs the rule " + ruleText(one.name, other.name, SHARE_CORES);
    plan.deny(DENIED_CORES, other.name, subject + text + rule, other.name, "tenants");
  }
  const cached = have.caches.length > 0 ? sharedUnit(first, second, have.caches) : -1;
  if (cached >= 0 && !mayShare(want.rules, one.name, other.name, SHARE_CACHES)) {
    const text = "CPU " + cached.toString() + " shares its last-level cache with tenant " + quote(one.name);
    const rule = "; it needs the rule " + ruleText(one.name, other.name, SHARE_CACHES);
    plan.deny(DENIED_CACHES, other.name, subject + text + rule, other.name, "tenants");
  }
}

/** The first CPU of the second set that is in one core, or one cache, with one of the first; -1: none. */
export function sharedUnit(first: i32[], second: i32[], units: i32[]): i32 {
  for (let i = 0; i < second.length; i++) {
    const cpu: i32 = item(second, i);
    for (let n = 0; n < first.length; n++)
      if (unitOf(units, item(first, n)) == unitOf(units, cpu)) return cpu;
  }
  return -1;
}

/** Where it is not known, each CPU is one of its own. */
function unitOf(units: i32[], cpu: i32): i32 {
  return cpu < units.length ? item(units, cpu) : cpu;
}

/** A network has two cards, and there are not many networks. */
function checkNetworks(want: PlanHost, plan: Plan): void {
  const names: string[] = [];
  const cards: i32[] = [];
  for (let i = 0; i < want.vms.length; i++) {
    const vm = item(want.vms, i);
    for (let n = 0; n < vm.networks.length; n++) {
      let index = names.indexOf(item(vm.networks, n));
      if (index < 0) {
        index = names.push(item(vm.networks, n)) - 1;
        cards.push(0);
      }
      const count: i32 = item(cards, index) + 1;
      cards[index] = count;
      if (count != 3) continue;
      const text =
        "VM " + quote(vm.name) + ": network " + quote(item(names, index)) + " has two cards already";
      plan.refuse(ErrorCode.FAILED, text, vm.name, "help apply");
    }
  }
  if (names.length <= Specification.MAX_HOST_NETWORKS) return;
  const limit = "it has " + plural(names.length, "network") + ", and a host has at most ";
  plan.refuse(ErrorCode.FAILED, limit + Specification.MAX_HOST_NETWORKS.toString(), FIELD_HOST, "help apply");
}

function planHost(have: PlanHost, want: PlanHost, plan: Plan): void {
  if (have.name != want.name)
    plan.steps.push(
      new Step(ACTION_HOST, FIELD_HOST, difference("name", quote(have.name), quote(want.name)), false),
    );
  for (let i = 0; i < want.tenants.length; i++) {
    const tenant = item(want.tenants, i);
    const old = findTenant(have.tenants, tenant.name);
    const before = old == null ? "none" : limits(old);
    if (before != limits(tenant))
      plan.steps.push(
        new Step(ACTION_HOST, tenant.name, difference("tenant", before, limits(tenant)), false),
      );
  }
  for (let i = 0; i < have.tenants.length; i++) {
    const tenant = item(have.tenants, i);
    if (findTenant(want.tenants, tenant.name) == null)
      plan.steps.push(
        new Step(ACTION_HOST, tenant.name, difference("tenant", limits(tenant), "none"), false),
      );
  }
  if (have.mitigations != want.mitigations) {
    const text = difference("mitigations", have.mitigations, want.mitigations);
    plan.steps.push(new Step(ACTION_HOST, FIELD_HOST, text, false));
  }
  const before = rulesText(have.rules);
  const after = rulesText(want.rules);
  if (before != after)
    plan.steps.push(new Step(ACTION_HOST, FIELD_HOST, difference("rules", before, after), false));
}

function rulesText(rules: ShareRule[]): string {
  if (rules.length == 0) return "none";
  let text = "";
  for (let i = 0; i < rules.length; i++) {
    const rule = item(rules, i);
    text += (i > 0 ? "; " : "") + rule.tenants.join(", ") + ": " + rule.share.join(", ");
  }
  return text;
}

function limits(tenant: PlanTenant): string {
  let text = tenant.memory > 0 ? exactSize(tenant.memory) : "any memory";
  if (tenant.vms > 0) text += ", " + plural(tenant.vms, "VM");
  if (tenant.vcpus > 0) text += ", " + plural(tenant.vcpus, "vCPU");
  if (tenant.cpus != "") text += ", CPUs " + tenant.cpus;
  if (tenant.exits > 0) text += ", " + plural(tenant.exits, "exit") + " a second";
  if (tenant.ipis > 0) text += ", " + plural(tenant.ipis, "IPI") + " a second";
  if (tenant.hypercalls > 0) text += ", " + plural(tenant.hypercalls, "hypercall") + " a second";
  if (tenant.log > 0) text += ", " + plural(tenant.log, "byte") + " of log a second";
  if (tenant.cache > 0) text += ", " + tenant.cache.toString() + " % of the cache";
  if (tenant.bandwidth > 0) text += ", " + tenant.bandwidth.toString() + " % of the memory bandwidth";
  return text;
}

function difference(field: string, before: string, after: string): string {
  if (before.length > MAX_SHOWN || after.length > MAX_SHOWN) return field + " differs";
  return field + ": " + before + " -> " + after;
}

/** The fields in which two specifications differ. */
function differing(have: PlanVm, want: PlanVm): string[] {
  const out: string[] = [];
  for (let i = 0; i < want.fields.length; i++) {
    const field = item(want.fields, i);
    if (have.get(field) != want.get(field)) out.push(field);
  }
  for (let i = 0; i < have.fields.length; i++) {
    const field = item(have.fields, i);
    if (want.fields.indexOf(field) < 0) out.push(field);
  }
  return out;
}

/** What a VM that stays has to go through; "" for nothing. */
function actionFor(have: PlanVm, fields: string[]): string {
  if (fields.indexOf(FIELD_DISKS) >= 0) return ACTION_REPLACE;
  for (let i = 0; i < fields.length; i++)
    if (have.up && LIVE_FIELDS.indexOf(item(fields, i)) < 0) return ACTION_RESTART;
  return fields.length > 0 ? ACTION_CHANGE : "";
}

/** The steps of one kind for the VMs that stay. */
function planKept(have: PlanHost, want: PlanHost, plan: Plan, action: string): void {
  for (let i = 0; i < want.vms.length; i++) {
    const vm = item(want.vms, i);
    const old = findVm(have.vms, vm.name);
    if (old == null || findVm(want.vms, vm.name) != vm) continue;
    const fields = differing(old, vm);
    const does = actionFor(old, fields);
    if (action == ACTION_START && vm.start && !old.up && does != ACTION_REPLACE)
      plan.steps.push(new Step(ACTION_START, vm.name, "it is not running", false));
    if (does != action) continue;
    if (old.moved) refuseMoved(plan, old.name);
    const ends = old.up && does != ACTION_CHANGE;
    plan.steps.push(new Step(does, vm.name, reasonFor(old, vm, fields, does), ends));
    if (old.guarded && does != ACTION_CHANGE) guarded(plan, old, "end it");
  }
}

function reasonFor(have: PlanVm, want: PlanVm, fields: string[], action: string): string {
  let text = "";
  for (let i = 0; i < fields.length; i++) {
    const field = item(fields, i);
    if (text.length > MAX_REASON) {
      text += "; " + (fields.length - i).toString() + " more differ";
      break;
    }
    text += (i > 0 ? "; " : "") + difference(field, have.get(field), want.get(field));
  }
  if (action == ACTION_RESTART) text += "; it runs, and is ended and started again";
  if (action == ACTION_REPLACE) text += "; its disks are made anew, what is on them is lost";
  return text;
}

function refuseMoved(plan: Plan, name: string): void {
  const text = "VM " + quote(name) + " has moved to another host: it cannot be changed here";
  const next = "rm " + name + ", or resume " + name + " --force if it does not run there";
  plan.refuse(ErrorCode.WRONG_STATE, text, name, next);
}

function guarded(plan: Plan, vm: PlanVm, what: string): void {
  const text = "VM " + quote(vm.name) + " is protected, and this would " + what;
  plan.deny(DENIED_PROTECTED, vm.tenant, text, vm.name, "set " + vm.name + " protected=no");
}

/** Whether a VM is a copy, NAME-N, of one of a specification for which the policy makes copies. */
function isCopy(name: string, want: PlanHost): boolean {
  const at = name.lastIndexOf("-");
  if (at <= 0 || at + 1 >= name.length || name.charCodeAt(at + 1) == 0x30) return false;
  for (let i = at + 1; i < name.length; i++)
    if (name.charCodeAt(i) < 0x30 || name.charCodeAt(i) > 0x39) return false;
  const original = findVm(want.vms, name.substring(0, at));
  return original != null && original.get(FIELD_SCALE) != "none";
}

function planRemoved(have: PlanHost, want: PlanHost, plan: Plan): void {
  for (let i = 0; i < have.vms.length; i++) {
    const vm = item(have.vms, i);
    if (findVm(want.vms, vm.name) != null || isCopy(vm.name, want)) continue;
    const reason =
      "it is not in the specification" +
      (vm.moved ? "; it has moved" : vm.up ? "; it runs, and is ended" : "");
    plan.steps.push(new Step(ACTION_REMOVE, vm.name, reason, vm.up));
    if (vm.guarded) guarded(plan, vm, "remove it");
  }
}

function planCreated(have: PlanHost, want: PlanHost, plan: Plan): void {
  for (let i = 0; i < want.vms.length; i++) {
    const vm = item(want.vms, i);
    if (findVm(have.vms, vm.name) != null || findVm(want.vms, vm.name) != vm) continue;
    const owner = vm.tenant == TENANT_DEFAULT ? "" : ", tenant " + quote(vm.tenant);
    const reason = sizeText(vm.needs) + ", " + plural(vm.vcpus, "vCPU") + owner;
    plan.steps.push(new Step(ACTION_CREATE, vm.name, reason + (vm.start ? "" : "; not started"), false));
  }
}

/** VMs that go keep their places until all else is done. */
function checkCount(have: PlanHost, plan: Plan): void {
  let count: i32 = have.vms.length;
  for (let i = 0; i < plan.steps.length; i++) {
    const action = item(plan.steps, i).action;
    if (action == ACTION_CREATE || action == ACTION_REPLACE) count++;
  }
  if (count <= Specification.MAX_VMS) return;
  const text = "it takes " + plural(count, "VM") + " at once, with those that go, and there is room for ";
  plan.refuse(ErrorCode.FAILED, text + Specification.MAX_VMS.toString(), FIELD_HOST, "rm NAME");
}

function cpusOn(node: PlanNode, cpus: i32[]): i32 {
  let count: i32 = 0;
  for (let i = 0; i < node.cpus.length; i++) if (cpus.indexOf(item(node.cpus, i)) >= 0) count++;
  return count;
}

/** Whether a node is better than another: for its CPUs, then for its memory, then because less runs there. */
function isBetter(node: PlanNode, best: PlanNode, needs: i64, vcpus: i32, cpus: i32[]): boolean {
  const own = cpusOn(node, cpus);
  const others = cpusOn(best, cpus);
  if (own > 0 != others > 0) return own > 0;
  const fits = node.free >= needs;
  if (fits != best.free >= needs) return fits;
  const load = (node.vcpus + vcpus) * others;
  const other = (best.vcpus + vcpus) * own;
  return fits && load != other ? load < other : node.free > best.free;
}

/**
 * The place of the node of which a VM should have memory and CPUs: the one that it asks for, if that is there, or the
 * best; -1: there is only one. `cpus`: those on which it may run.
 */
export function chooseNode(nodes: PlanNode[], asked: i64, needs: i64, vcpus: i32, cpus: i32[]): i32 {
  let best: i32 = -1;
  for (let i = 0; i < nodes.length && nodes.length > 1; i++) {
    if (item(nodes, i).id == asked) return i;
    if (best < 0 || isBetter(item(nodes, i), item(nodes, best), needs, vcpus, cpus)) best = i;
  }
  return best;
}

/** The node that a VM asks for; -1: none. */
function askedNode(vm: PlanVm): i64 {
  const text = vm.get(FIELD_NODE);
  if (text == "none") return -1;
  let node: i64 = 0;
  for (let i = 0; i < text.length; i++) node = node * 10 + (text.charCodeAt(i) - 0x30);
  return node;
}

/** Takes a VM's memory, of its node as long as that has any. */
function takeNode(nodes: PlanNode[], first: i32, vm: PlanVm): void {
  let left: i64 = vm.needs;
  item(nodes, first).vcpus += vm.vcpus;
  for (let i = 0; i < nodes.length; i++) {
    const at: i32 = first + i < nodes.length ? first + i : first + i - nodes.length;
    const node = item(nodes, at);
    const part: i64 = left < node.free ? left : node.free;
    node.free -= part;
    left -= part;
  }
}

/** The place of a node; -1: there is none that is called so. */
export function findNode(nodes: PlanNode[], id: i64): i32 {
  for (let i = 0; i < nodes.length; i++) if (item(nodes, i).id == id) return i;
  return -1;
}

/** Says that the host has no such node. */
export function noSuchNode(nodes: PlanNode[], id: i64): string {
  const names: string[] = [];
  for (let i = 0; i < nodes.length; i++) names.push(item(nodes, i).id.toString());
  return "node " + id.toString() + " is none of the host's: " + names.join(", ");
}

/** Why a VM cannot have the node that it asks for when its turn comes; "": it can. */
function nodeProblem(nodes: PlanNode[], asked: i64, needs: i64): string {
  if (asked < 0 || nodes.length == 0) return "";
  const at = findNode(nodes, asked);
  if (at < 0) return noSuchNode(nodes, asked);
  const free = item(nodes, at).free;
  if (needs <= free) return "";
  const lack = "needs " + sizeText(needs) + ", " + sizeText(free) + " are free on node ";
  return lack + asked.toString() + " by then";
}

/** Gives a VM that starts its node, or refuses it the one that it asks for. */
function placeOnNode(nodes: PlanNode[], vm: PlanVm, cpus: i32[], takes: boolean, plan: Plan): void {
  const asked = askedNode(vm);
  const problem = nodeProblem(nodes, asked, vm.needs);
  if (problem != "") {
    plan.refuse(ErrorCode.FAILED, "VM " + quote(vm.name) + ": " + problem, vm.name, "hardware");
    return;
  }
  const node = takes ? chooseNode(nodes, asked, vm.needs, vm.vcpus, cpus) : -1;
  if (node >= 0) takeNode(nodes, node, vm);
}

/** The nodes as they will be when those VMs are gone that end. */
function nodesThen(have: PlanHost, plan: Plan): PlanNode[] {
  const out: PlanNode[] = [];
  for (let i = 0; i < have.nodes.length; i++) {
    const node = item(have.nodes, i);
    const copy = new PlanNode(node.id, node.free);
    copy.cpus = node.cpus;
    copy.vcpus = node.vcpus;
    out.push(copy);
  }
  for (let i = 0; i < plan.steps.length; i++) {
    const step = item(plan.steps, i);
    const old = findVm(have.vms, step.object);
    if (!step.ends || old == null || old.node < 0 || old.node >= out.length) continue;
    item(out, old.node).free += old.frees;
    item(out, old.node).vcpus -= old.vcpus;
  }
  return out;
}

/** Whether each VM finds its memory when its turn comes. */
function checkMemory(have: PlanHost, want: PlanHost, plan: Plan): void {
  let free: i64 = have.free;
  const nodes = nodesThen(have, plan);
  for (let i = 0; i < plan.steps.length; i++) {
    const step = item(plan.steps, i);
    const old = findVm(have.vms, step.object);
    if (step.ends && old != null) free += old.frees;
  }
  for (let i = 0; i < plan.steps.length; i++) {
    const step = item(plan.steps, i);
    const vm = findVm(want.vms, step.object);
    if (vm == null || step.action == ACTION_CHANGE || step.action == ACTION_HOST) continue;
    if (vm.needs > free) {
      const text =
        "VM " +
        quote(vm.name) +
        ": needs " +
        sizeText(vm.needs) +
        ", " +
        sizeText(free) +
        " are free by then";
      plan.refuse(ErrorCode.FAILED, text, vm.name, "free");
      continue;
    }
    const takes = vm.start || step.action == ACTION_RESTART;
    placeOnNode(nodes, vm, cpusOf(vm, want, have.cpus), takes, plan);
    if (takes) free -= vm.needs;
  }
}

/** Whether each vCPU that is promised something finds a CPU that has it: those that want most are asked first. */
function checkCpus(have: PlanHost, want: PlanHost, plan: Plan): void {
  const count = have.cpus;
  if (count == 0) return;
  const taken: i32[] = []; /* percent of each CPU */
  for (let cpu: i32 = 0; cpu < count; cpu++) taken.push(cpu == 0 ? CONTROL_PERCENT : 0);
  for (let i = 0; i < want.vms.length; i++) checkSet(item(want.vms, i), want, count, plan);
  for (let part: i32 = 100; part > 0; part--)
    for (let i = 0; i < want.vms.length; i++) {
      const vm = item(want.vms, i);
      if (vm.start && partOf(vm) == part) promise(vm, part, cpusOf(vm, want, count), taken, plan);
    }
}

/** The CPUs that a VM may run on: its own, of those of its tenant. */
function cpusOf(vm: PlanVm, want: PlanHost, count: i32): i32[] {
  const out: i32[] = [];
  const tenant = findTenant(want.tenants, vm.tenant);
  const bound = cpuList(tenant != null ? tenant.cpus : "");
  const text = vm.get(FIELD_CPUS);
  const set = cpuList(text.length > 2 ? text.substring(1, text.length - 1) : "");
  for (let cpu: i32 = 0; cpu < count; cpu++)
    if ((text == "none" || set.indexOf(cpu) >= 0) && (bound.length == 0 || bound.indexOf(cpu) >= 0))
      out.push(cpu);
  return out;
}

function checkSet(vm: PlanVm, want: PlanHost, count: i32, plan: Plan): void {
  if (cpusOf(vm, want, count).length > 0) return;
  const tenant = findTenant(want.tenants, vm.tenant);
  const bound = tenant != null ? tenant.cpus : "";
  const text = "VM " + quote(vm.name) + ": cpus is " + vm.get(FIELD_CPUS);
  const others = bound != "" ? ", and its tenant has CPUs " + bound + "; " : ", and ";
  plan.refuse(ErrorCode.FAILED, text + others + "the host has " + plural(count, "CPU"), vm.name, "status");
}

/** Percent of a CPU that each of its vCPUs is promised. */
function partOf(vm: PlanVm): i32 {
  const scheduling = vm.get(FIELD_SCHEDULING);
  if (scheduling == quote(SCHEDULING_DEDICATED)) return 100;
  if (scheduling != quote(SCHEDULING_RESERVED)) return 0;
  const text = vm.get(FIELD_RESERVE);
  let part: i32 = 0;
  for (let i = 0; i < text.length; i++) part = part * 10 + (text.charCodeAt(i) - 0x30);
  return part;
}

function promise(vm: PlanVm, part: i32, cpus: i32[], taken: i32[], plan: Plan): void {
  const alone = vm.get(FIELD_SCHEDULING) == quote(SCHEDULING_DEDICATED);
  for (let n: i32 = 0; n < vm.vcpus && cpus.length > 0; n++) {
    let best: i32 = -1;
    for (let i = 0; i < cpus.length; i++) {
      const cpu = item(cpus, i);
      if (item(taken, cpu) + part <= 100 && (best < 0 || item(taken, cpu) < item(taken, best))) best = cpu;
    }
    if (best >= 0) {
      taken[best] = item(taken, best) + part;
      continue;
    }
    const what = alone ? "a CPU for itself" : part.toString() + " % of a CPU";
    const left = "VM " + quote(vm.name) + ": its vCPU " + n.toString() + " should have " + what;
    plan.refuse(
      ErrorCode.FAILED,
      left + ", and no CPU that it may run on has that left",
      vm.name,
      "help create",
    );
    return;
  }
}
