// What the planner is told: this host, and a specification, each VM with what it costs here.

import { FIELD_BALLOON, FIELD_FLOOR, FIELD_MEMORY, FIELD_NAME, FIELD_SIZE } from "../protocol/schema";
import { crc32c } from "../lib/crc32c";
import { planAdmitted, stepsText } from "../protocol/admission";
import { checkIsolation, exactSize, Plan, PlanHost, PlanTenant, PlanVm, Refusal } from "../protocol/planner";
import { ShareRule } from "../protocol/rules";
import { PAGE_SIZE } from "../gen/abi";
import { factsOfPlan } from "./facts";
import { freePages, info } from "./host";
import { policyHooks } from "./hooks/chosen";
import { HostSpec } from "./host-spec";
import { cablesNeeded } from "./networks";
import { mitigationsGet } from "./mitigations";
import { nodesNow } from "./nodes";
import { Fault } from "./outcome";
import { partitions } from "./partitions";
import { rulesAll } from "./rules";
import { snapshotCosts } from "./snapshots";
import { VmSpec } from "./spec";
import { Tenant, tenantsAll } from "./tenants";
import { utf8 } from "./text";
import { cacheUnits, coreUnits } from "./topology";
import { Kind, Value } from "./value";
import { Vm } from "./vm";
import { imagesAdmit, vmCost, vmFrees, vmNeeds } from "./vm-builder";
import { hostNameGet, vmFind, vmFreeIndex, vmsAll } from "./vms";

const SIZES: string[] = [FIELD_MEMORY, FIELD_BALLOON, FIELD_SIZE, FIELD_FLOOR];

export function planTenant(tenant: Tenant): PlanTenant {
  const out = new PlanTenant(tenant.name);
  out.memory = tenant.memory;
  out.vms = tenant.vms;
  out.vcpus = tenant.vcpus;
  out.cpus = tenant.cpus;
  out.exits = tenant.exits;
  out.ipis = tenant.ipis;
  out.hypercalls = tenant.hypercalls;
  out.log = tenant.log;
  out.cache = tenant.cache;
  out.bandwidth = tenant.bandwidth;
  out.snapshots = snapshotCosts(tenant.name);
  return out;
}

/** What a quota counts of a VM. */
export function planCost(vm: Vm): PlanVm {
  const out = new PlanVm(vm.name);
  out.tenant = vm.spec.tenant;
  out.vcpus = vm.spec.vcpus;
  out.cost = vm.cost;
  out.memory = vm.spec.memory;
  out.tags = vm.spec.tags;
  return out;
}

/** A field's value for people, and so that different values have different texts. */
function textOf(field: string, value: Value): string {
  switch (value.kind) {
    case Kind.UINT:
      if (SIZES.includes(field)) return exactSize(value.number);
      return value.number.toString();
    case Kind.BOOL:
      return value.number != 0 ? "yes" : "no";
    case Kind.LIST:
      return "[" + value.items.map<string>((item: Value): string => textOf("", item)).join(", ") + "]";
    case Kind.MAP: {
      let text = "";
      for (let i = 0; i < value.keys.length; i++)
        text += (i > 0 ? ", " : "") + value.keys[i] + " " + textOf(value.keys[i], value.items[i]);
      return "{" + text + "}";
    }
    default:
      return '"' + value.text + '"';
  }
}

function describe(out: PlanVm, spec: VmSpec): void {
  const value = spec.toValue();
  for (let i = 0; i < value.keys.length; i++)
    if (value.keys[i] != FIELD_NAME) out.set(value.keys[i], textOf(value.keys[i], value.items[i]));
  out.guarded = spec.guarded;
  out.start = spec.start;
  for (let i = 0; i < spec.cards.length; i++) out.networks.push(spec.cards[i].network);
}

function planVm(vm: Vm): PlanVm {
  const out = planCost(vm);
  describe(out, vm.spec);
  out.up = !vm.ended;
  out.moved = vm.moved;
  out.frees = vmFrees(vm);
  out.node = vm.alive ? vm.node : -1;
  return out;
}

/** A wanted VM: what it needs depends on the disks that it has already. */
function planWanted(spec: VmSpec, newIndex: i32): PlanVm {
  const old = vmFind(spec.name);
  const index = old != null ? old.index : max(newIndex, 0);
  const vm = new Vm(index, spec);
  vm.cost = vmCost(vm);
  const out = planCost(vm);
  describe(out, spec);
  out.needs = vmNeeds(vm) + cablesNeeded(spec);
  const fault = imagesAdmit(vm);
  if (fault != null) out.refusal = new Refusal(fault.code, fault.message, fault.object, fault.next);
  return out;
}

function planHave(): PlanHost {
  const out = new PlanHost();
  out.name = hostNameGet();
  out.mitigations = mitigationsGet().text;
  out.free = freePages() * PAGE_SIZE;
  out.cpus = info().cpus;
  out.nodes = nodesNow();
  tenantsOf(out, tenantsAll(), rulesAll());
  out.vms = vmsAll().map<PlanVm>((vm: Vm): PlanVm => planVm(vm));
  return out;
}

/** A number that differs when the steps do: what is applied is what was shown. */
export function digestOf(plan: Plan): u32 {
  const bytes = utf8(stepsText(plan));
  return crc32c(changetype<usize>(bytes), bytes.length);
}

function tenantsOf(host: PlanHost, tenants: Tenant[], rules: ShareRule[]): void {
  host.rules = rules;
  host.tenants = tenants.map<PlanTenant>((tenant: Tenant): PlanTenant => planTenant(tenant));
  host.cores = coreUnits();
  host.caches = cacheUnits();
  host.services = partitions().services;
  host.ways = partitions().ways;
  host.delay = partitions().delay;
}

/** What of tenants themselves the policy forbids on this host; a refusal names a tenant. */
export function planTenants(tenants: Tenant[], rules: ShareRule[]): Refusal[] {
  const host = new PlanHost();
  tenantsOf(host, tenants, rules);
  const plan = new Plan();
  checkIsolation(host, host, plan);
  return plan.refusals;
}

/** What a new VM of a tenant is decided by beside its limits: which CPUs tenants have, if this has any of its own. */
export function planBeside(tenant: Tenant): PlanHost {
  const host = new PlanHost();
  if (tenant.cpus != "") tenantsOf(host, tenantsAll(), rulesAll());
  return host;
}

/** The steps from what this host is to a specification, or what forbids it. `decides`: it is to be done. */
export function planSpec(spec: HostSpec, decides: bool): Plan {
  const want = new PlanHost();
  want.name = spec.name;
  want.mitigations = spec.mitigations.text;
  tenantsOf(want, spec.tenants, spec.rules);
  const index = vmFreeIndex();
  for (let i = 0; i < spec.vms.length; i++) want.vms.push(planWanted(spec.vms[i], index));
  const have = planHave();
  const plan = planAdmitted(have, want, policyHooks());
  const faults = spec.faults.map<Refusal>(
    (fault: Fault): Refusal => new Refusal(fault.code, fault.message, fault.object, fault.next),
  );
  plan.refusals = faults.concat(plan.refusals);
  if (decides) factsOfPlan(have, want, faults, plan, digestOf(plan));
  return plan;
}
