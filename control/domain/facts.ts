// What a decision rested on: the request and the facts that the planner and the policy hooks were given, and what they
// said. A document of its own beside the audit log, whose record has its hash; `plinth audit replay` decides again.

import { Plan, PlanHost, PlanNode, PlanTenant, PlanVm, Refusal } from "../protocol/planner";
import {
  EVENT_POLICY,
  FIELD_ACTION,
  FIELD_BANDWIDTH,
  FIELD_CACHE,
  FIELD_CACHES,
  FIELD_CODE,
  FIELD_CORES,
  FIELD_COPIES,
  FIELD_COST,
  FIELD_CPU,
  FIELD_CPUS,
  FIELD_EXITS,
  FIELD_HYPERCALLS,
  FIELD_IPIS,
  FIELD_LOG,
  FIELD_DELAY,
  FIELD_DIGEST,
  FIELD_EVENT,
  FIELD_FAULTS,
  FIELD_FIELDS,
  FIELD_FREE,
  FIELD_FREES,
  FIELD_HAVE,
  FIELD_HOOKS,
  FIELD_MAX,
  FIELD_MEMORY,
  FIELD_MESSAGE,
  FIELD_MIN,
  FIELD_MITIGATIONS,
  FIELD_MOVED,
  FIELD_NAME,
  FIELD_NEEDS,
  FIELD_NETWORKS,
  FIELD_NEXT,
  FIELD_NODE,
  FIELD_NODES,
  FIELD_OBJECT,
  FIELD_OP,
  FIELD_PROTECTED,
  FIELD_REASON,
  FIELD_REFUSALS,
  FIELD_RESTARTS,
  FIELD_RULES,
  FIELD_RUNNING,
  FIELD_SCALE,
  FIELD_SERVICES,
  FIELD_SPEC,
  FIELD_START,
  FIELD_TAGS,
  FIELD_SNAPSHOTS,
  FIELD_TENANT,
  FIELD_TENANTS,
  FIELD_VCPUS,
  FIELD_VERDICT,
  FIELD_VM,
  FIELD_VMS,
  FIELD_WANT,
  FIELD_WAYS,
  OP_APPLY,
  OP_CREATE,
  OP_SET,
} from "../protocol/schema";
import { policyHooks } from "./hooks/chosen";
import { HookAction, HookScale, HookVm } from "./hooks/hooks";
import { rulesToValue } from "./rules";
import { namesToValue, VmSpec } from "./spec";
import { clean } from "./text";
import { Value } from "./value";

const MAX_TEXT = 200;

/** Of the first decision of a command. */
let pending: Value | null = null;

/** The facts of the decision of this command, once; null: it rested on none that are kept. */
export function factsTake(): Value | null {
  const facts = pending;
  pending = null;
  return facts;
}

function begin(op: string): Value {
  return Value.map().putText(FIELD_OP, op).putText(FIELD_HOOKS, policyHooks().name());
}

function refusalToValue(refusal: Refusal): Value {
  return Value.map()
    .putUint(FIELD_CODE, refusal.code)
    .putText(FIELD_MESSAGE, refusal.message)
    .putText(FIELD_OBJECT, refusal.object)
    .putText(FIELD_NEXT, refusal.next);
}

function verdictOf(plan: Plan, digest: u32): Value {
  const verdict = Value.map()
    .putUint(FIELD_REFUSALS, plan.refusals.length)
    .putUint(FIELD_DIGEST, digest)
    .putUint(FIELD_CODE, 0);
  if (plan.refusals.length == 0) return verdict;
  const first = plan.refusals[0];
  verdict.items[2].number = first.code;
  return verdict.putText(FIELD_MESSAGE, clean(first.message, MAX_TEXT));
}

function tenantToValue(tenant: PlanTenant): Value {
  return Value.map()
    .putText(FIELD_NAME, tenant.name)
    .putUint(FIELD_MEMORY, tenant.memory)
    .putUint(FIELD_VMS, tenant.vms)
    .putUint(FIELD_VCPUS, tenant.vcpus)
    .putText(FIELD_CPUS, tenant.cpus)
    .putUint(FIELD_EXITS, tenant.exits)
    .putUint(FIELD_IPIS, tenant.ipis)
    .putUint(FIELD_HYPERCALLS, tenant.hypercalls)
    .putUint(FIELD_LOG, tenant.log)
    .putUint(FIELD_CACHE, tenant.cache)
    .putUint(FIELD_BANDWIDTH, tenant.bandwidth)
    .putUint(FIELD_SNAPSHOTS, tenant.snapshots);
}

function vmToValue(vm: PlanVm): Value {
  const value = Value.map()
    .putText(FIELD_NAME, vm.name)
    .putText(FIELD_TENANT, vm.tenant)
    .putUint(FIELD_VCPUS, vm.vcpus)
    .putUint(FIELD_MEMORY, vm.memory)
    .putUint(FIELD_COST, vm.cost);
  if (vm.tags.length > 0) value.put(FIELD_TAGS, namesToValue(vm.tags));
  return value;
}

/** A VM of a plan, with all that the planner looks at. */
function planVmToValue(vm: PlanVm): Value {
  const fields = Value.map();
  for (let i = 0; i < vm.fields.length; i++) fields.putText(vm.fields[i], vm.texts[i]);
  const value = vmToValue(vm)
    .putUint(FIELD_NEEDS, vm.needs)
    .putUint(FIELD_FREES, vm.frees)
    .putBool(FIELD_PROTECTED, vm.guarded)
    .putBool(FIELD_START, vm.start)
    .putBool(FIELD_RUNNING, vm.up)
    .putBool(FIELD_MOVED, vm.moved)
    .put(FIELD_FIELDS, fields);
  if (vm.node >= 0) value.putUint(FIELD_NODE, vm.node);
  if (vm.networks.length > 0) value.put(FIELD_NETWORKS, namesToValue(vm.networks));
  const refusal = vm.refusal;
  return refusal != null ? value.put(FIELD_REFUSALS, refusalToValue(refusal)) : value;
}

function unitsToValue(units: i32[]): Value {
  const list = Value.list();
  for (let i = 0; i < units.length; i++) list.add(Value.uint(units[i]));
  return list;
}

function nodesToValue(nodes: PlanNode[]): Value {
  const list = Value.list();
  for (let i = 0; i < nodes.length; i++)
    list.add(
      Value.map()
        .putUint(FIELD_NODE, nodes[i].id)
        .putUint(FIELD_FREE, nodes[i].free)
        .putUint(FIELD_VCPUS, nodes[i].vcpus)
        .put(FIELD_CPUS, unitsToValue(nodes[i].cpus)),
    );
  return list;
}

function hostToValue(host: PlanHost): Value {
  const tenants = Value.list();
  const vms = Value.list();
  for (let i = 0; i < host.tenants.length; i++) tenants.add(tenantToValue(host.tenants[i]));
  for (let i = 0; i < host.vms.length; i++) vms.add(planVmToValue(host.vms[i]));
  return Value.map()
    .putText(FIELD_NAME, host.name)
    .putUint(FIELD_FREE, host.free)
    .putUint(FIELD_CPUS, host.cpus)
    .put(FIELD_TENANTS, tenants)
    .put(FIELD_VMS, vms)
    .put(FIELD_RULES, rulesToValue(host.rules))
    .putText(FIELD_MITIGATIONS, host.mitigations)
    .put(FIELD_CORES, unitsToValue(host.cores))
    .put(FIELD_CACHES, unitsToValue(host.caches))
    .put(FIELD_NODES, nodesToValue(host.nodes))
    .putUint(FIELD_SERVICES, max(host.services, 0))
    .putUint(FIELD_WAYS, host.ways)
    .putUint(FIELD_DELAY, host.delay);
}

/** Of a new VM: what admitNew was told. */
export function factsOfNew(
  spec: VmSpec,
  host: PlanHost,
  tenant: PlanTenant,
  vms: PlanVm[],
  vm: PlanVm,
  plan: Plan,
): void {
  if (pending != null) return;
  const others = Value.list();
  for (let i = 0; i < vms.length; i++) others.add(vmToValue(vms[i]));
  pending = begin(OP_CREATE)
    .put(FIELD_SPEC, spec.toValue())
    .put(FIELD_TENANT, tenantToValue(tenant))
    .put(FIELD_VMS, others)
    .put(FIELD_VM, vmToValue(vm))
    .put(FIELD_VERDICT, verdictOf(plan, 0));
  if (host.tenants.length > 0) pending!.put(FIELD_HAVE, hostToValue(host));
}

/** Of a VM that is changed while it runs. */
export function factsOfSet(spec: VmSpec, vm: PlanVm, plan: Plan): void {
  pending = begin(OP_SET)
    .put(FIELD_SPEC, spec.toValue())
    .put(FIELD_VM, vmToValue(vm))
    .put(FIELD_VERDICT, verdictOf(plan, 0));
}

/** Of a specification: the planner's two hosts, and `faults` that it was not asked about. */
export function factsOfPlan(
  have: PlanHost,
  want: PlanHost,
  faults: Refusal[],
  plan: Plan,
  digest: u32,
): void {
  const list = Value.list();
  for (let i = 0; i < faults.length; i++) list.add(refusalToValue(faults[i]));
  pending = begin(OP_APPLY)
    .put(FIELD_HAVE, hostToValue(have))
    .put(FIELD_WANT, hostToValue(want))
    .put(FIELD_FAULTS, list)
    .put(FIELD_VERDICT, verdictOf(plan, digest));
}

function hookVmToValue(vm: HookVm): Value {
  const about = Value.map()
    .putText(FIELD_NAME, vm.name)
    .putText(FIELD_TENANT, vm.tenant)
    .putUint(FIELD_VCPUS, vm.vcpus)
    .putUint(FIELD_MEMORY, vm.memory)
    .putUint(FIELD_RESTARTS, vm.restarts);
  if (vm.tags.length > 0) about.put(FIELD_TAGS, namesToValue(vm.tags));
  return about;
}

/** Of how many copies policy hooks want. */
export function factsOfScale(facts: HookScale, wanted: i32): Value {
  const about = hookVmToValue(facts.vm)
    .putUint(FIELD_COPIES, facts.copies)
    .putUint(FIELD_MIN, facts.min)
    .putUint(FIELD_MAX, facts.max)
    .putUint(FIELD_CPU, facts.cpu)
    .putUint(FIELD_FREE, facts.free);
  const verdict = Value.map().putUint(FIELD_COPIES, max(wanted, 0));
  return begin(EVENT_POLICY)
    .putText(FIELD_EVENT, FIELD_SCALE)
    .put(FIELD_VM, about)
    .put(FIELD_VERDICT, verdict);
}

/** Of what policy hooks want to be done after an event. */
export function factsOfEvent(kind: string, vm: HookVm, action: HookAction): Value {
  const about = hookVmToValue(vm);
  const verdict = Value.map()
    .putText(FIELD_ACTION, action.action)
    .putText(FIELD_VM, action.vm)
    .putText(FIELD_REASON, clean(action.reason, MAX_TEXT));
  return begin(EVENT_POLICY).putText(FIELD_EVENT, kind).put(FIELD_VM, about).put(FIELD_VERDICT, verdict);
}
