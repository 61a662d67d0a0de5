// What can flow between two domains, and whether the rules allow it: from the kernel's tables, not from the specification.

import { mayShare, SHARE_NETWORKS } from "../protocol/rules";
import {
  DIRECTION_BOTH,
  DIRECTION_FROM,
  DIRECTION_NONE,
  DIRECTION_TO,
  ErrorCode,
  FIELD_FLOWS,
  FIELD_FORBIDDEN,
  FIELD_FROM,
  FIELD_NEXT,
  FIELD_ONE,
  FIELD_OTHER,
  FIELD_PAIRS,
  FLOW_CONTROL,
  FLOW_PATH,
} from "../protocol/schema";
import { Finding, findPlaces } from "./placement";
import { Flow, Flows, Node } from "./flows";
import { Fault, Outcome } from "./outcome";
import { rulesAll } from "./rules";
import { tenantFind, tenantNames } from "./tenants";
import { clean, nearest, quoted } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { vmFind, vmNames, vmsAll } from "./vms";

/** Bytes of flows in one reply. */
const PAGE_BUDGET = 3400;
const CONTROL: string = "control";
const BY_TENANT: string = "tenant=";
const BY_VM: string = "vm=";

/* --- names --- */

/** The domains of a name: the control domain, a VM with its device model, a tenant's VMs, or one domain's label. */
class Party {
  nodes: Node[] = [];
  vms: Vm[] = [];
  known: bool = true;

  constructor(name: string, flows: Flows) {
    if (name == CONTROL) this.nodes.push(flows.control);
    else this.find(name, flows);
  }

  private find(name: string, flows: Flows): void {
    for (let i = 1; i < flows.nodes.length; i++)
      if (flows.nodes[i].label == name) this.nodes.push(flows.nodes[i]);
    if (this.nodes.length > 0) {
      this.vms.push(this.nodes[0].vm!);
      return;
    }
    const vm: Vm | null = name.startsWith(BY_TENANT) ? null : vmFind(name.replace(BY_VM, ""));
    const tenant = name.replace(BY_TENANT, "");
    const all = vmsAll();
    if (vm != null) this.vms.push(vm);
    for (let i = 0; i < all.length && vm == null; i++)
      if (all[i].spec.tenant == tenant) this.vms.push(all[i]);
    this.known = vm != null || (!name.startsWith(BY_VM) && tenantFind(tenant) != null);
    for (let i = 1; i < flows.nodes.length; i++)
      if (this.vms.includes(flows.nodes[i].vm!)) this.nodes.push(flows.nodes[i]);
  }

  get isControl(): bool {
    return this.nodes.length == 1 && this.nodes[0].vm == null;
  }
}

function noSuchParty(name: string): Fault {
  const near = nearest(name, vmNames().concat(tenantNames()).concat([CONTROL]));
  const hint = near != "" ? ", did you mean " + quoted(near) + "?" : "";
  const text = quoted(name) + " is no VM, tenant or domain" + hint;
  return new Fault(ErrorCode.NOT_FOUND, text, clean(name, 60), "ls");
}

/* --- verdicts --- */

function judge(flow: Flow): Finding {
  const one = flow.from.vm;
  const other = flow.to.vm;
  let allowed = true;
  let reason = "";
  if (one == null || other == null) reason = "the control domain rules all";
  else if (one == other) reason = "they are one VM and its device model";
  else if (one.spec.tenant == other.spec.tenant) reason = "both are tenant " + quoted(one.spec.tenant) + "'s";
  else if (flow.direction == DIRECTION_NONE) reason = "both can only read it";
  else if (flow.network >= 0 && mayShare(rulesAll(), one.spec.tenant, other.spec.tenant, SHARE_NETWORKS))
    reason = "a rule lets them share networks";
  else {
    allowed = false;
    reason =
      "no rule lets tenants " + quoted(one.spec.tenant) + " and " + quoted(other.spec.tenant) + " share it";
  }
  return new Finding(flow.kind, flow.from.label, flow.to.label, flow.direction, flow.text, allowed, reason);
}

/* --- paths --- */

/** How something gets from one set of domains to another by way of others; null: it does not. */
function findPath(flows: Flows, from: Node[], to: Node[]): Flow[] | null {
  const reached: Node[] = from.slice(0);
  const by: (Flow | null)[] = from.map<Flow | null>((node: Node): Flow | null => null);
  for (let at = 0; at < reached.length; at++) {
    for (let i = 0; i < flows.all.length; i++) {
      const flow = flows.all[i];
      const next = flow.from == reached[at] ? flow.to : flow.from;
      if (!flow.carries(reached[at], next) || next == flows.control || reached.includes(next)) continue;
      if (to.includes(next)) {
        if (!from.includes(reached[at])) return backFrom(flow, reached[at], reached, by);
        continue; /* at once: that is no path */
      }
      reached.push(next);
      by.push(flow);
    }
  }
  return null;
}

function backFrom(last: Flow, node: Node, reached: Node[], by: (Flow | null)[]): Flow[] {
  const path: Flow[] = [last];
  let at = node;
  for (let flow = by[reached.indexOf(at)]; flow != null; flow = by[reached.indexOf(at)]) {
    path.unshift(flow);
    at = flow.from == at ? flow.to : flow.from;
  }
  return path;
}

/** Domains on the way that are in neither set. */
function addPath(
  flows: Flows,
  one: Party,
  other: Party,
  name: string,
  otherName: string,
  out: Finding[],
): void {
  const there = findPath(flows, one.nodes, other.nodes);
  const back = findPath(flows, other.nodes, one.nodes);
  const path = there != null ? there : back;
  if (path == null) return;
  const direction = there == null ? DIRECTION_FROM : back == null ? DIRECTION_TO : DIRECTION_BOTH;
  let text = "";
  let allowed = true;
  for (let i = 0; i < path.length; i++) {
    text += (i > 0 ? ", then " : "") + path[i].from.label + " " + path[i].direction + " " + path[i].to.label;
    allowed = allowed && judge(path[i]).allowed;
  }
  const reason = allowed ? "each step of it is allowed" : "a step of it is forbidden";
  out.push(new Finding(FLOW_PATH, name, otherName, direction, text, allowed, reason));
}

/** What both share with the control domain, without which they could not be. */
function addControl(
  flows: Flows,
  one: Party,
  other: Party,
  name: string,
  otherName: string,
  out: Finding[],
): void {
  if (one.isControl || other.isControl || one.nodes.length == 0 || other.nodes.length == 0) return;
  let count = 0;
  for (let i = 0; i < flows.all.length; i++) {
    const flow = flows.all[i];
    const end = flow.from == flows.control ? flow.to : flow.to == flows.control ? flow.from : null;
    if (end != null && (one.nodes.includes(end) || other.nodes.includes(end))) count++;
  }
  const text = "by way of the control domain: each device model's link to it, and its rights on all of them";
  const reason = count.toString() + " ways; its program passes nothing on between VMs";
  out.push(new Finding(FLOW_CONTROL, name, otherName, DIRECTION_BOTH, text, true, reason));
}

/* --- results --- */

function countForbidden(list: Finding[]): u32 {
  let count: u32 = 0;
  for (let i = 0; i < list.length; i++) if (!list[i].allowed) count++;
  return count;
}

/** As many findings as a frame holds, from one on. */
function pageOf(list: Finding[], request: Value): Value {
  const flows = Value.list();
  const result = Value.map().putUint(FIELD_FORBIDDEN, countForbidden(list)).put(FIELD_FLOWS, flows);
  let budget = PAGE_BUDGET;
  for (let i = <i32>min<u64>(request.getUint(FIELD_FROM), list.length); i < list.length; i++) {
    budget -= list[i].size;
    if (budget < 0) return result.putUint(FIELD_NEXT, i);
    flows.add(list[i].toValue());
  }
  return result;
}

/** What can flow between the two that a request names. */
function explain(name: string, otherName: string, request: Value): Outcome {
  const flows = new Flows();
  const one = new Party(name, flows);
  const other = new Party(otherName, flows);
  if (!one.known) return Outcome.fail(noSuchParty(name));
  if (!other.known) return Outcome.fail(noSuchParty(otherName));
  const out: Finding[] = [];
  flows.find(one.nodes, other.nodes);
  for (let i = 0; i < one.nodes.length; i++)
    if (other.nodes.includes(one.nodes[i])) {
      const text =
        quoted(name) + " and " + quoted(otherName) + " are not two: both have " + one.nodes[i].label;
      return Outcome.fail(new Fault(ErrorCode.USAGE, text, name, "help policy"));
    }
  for (let i = 0; i < flows.all.length; i++) {
    const flow = flows.all[i];
    if (one.nodes.includes(flow.from) && other.nodes.includes(flow.to)) out.push(judge(flow));
    else if (one.nodes.includes(flow.to) && other.nodes.includes(flow.from)) out.push(judge(flow));
  }
  addPath(flows, one, other, name, otherName, out);
  addControl(flows, one, other, name, otherName, out);
  findPlaces(one.vms, other.vms, name, otherName, out);
  return Outcome.of(pageOf(out, request).putText(FIELD_ONE, name).putText(FIELD_OTHER, otherName));
}

/** What is forbidden between any two tenants. */
function checkAll(request: Value): Outcome {
  const flows = new Flows();
  const out: Finding[] = [];
  flows.find([], []);
  for (let i = 0; i < flows.all.length; i++) {
    const finding = judge(flows.all[i]);
    if (!finding.allowed) out.push(finding);
  }
  const names = tenantNames();
  let pairs: u32 = 0;
  for (let i = 0; i < names.length; i++)
    for (let n = 0; n < i; n++) {
      const found: Finding[] = [];
      const one = new Party(BY_TENANT + names[n], flows);
      const other = new Party(BY_TENANT + names[i], flows);
      findPlaces(one.vms, other.vms, names[n], names[i], found);
      for (let f = 0; f < found.length; f++) if (!found[f].allowed) out.push(found[f]);
      pairs++;
    }
  return Outcome.of(pageOf(out, request).putUint(FIELD_PAIRS, pairs));
}

/** The result of `policy`: with two names what can flow between them, else what is forbidden anywhere. */
export function policyResult(request: Value): Outcome {
  const one = clean(request.getText(FIELD_ONE), 60);
  const other = clean(request.getText(FIELD_OTHER), 60);
  return one == "" && other == "" ? checkAll(request) : explain(one, other, request);
}
