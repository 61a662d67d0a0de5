// Decides again what the host has decided: from the facts that it kept, by the same planner and the same policy hooks.

import { createHash } from "node:crypto";
import { Hooks, HookScale, HookVm } from "../domain/hooks/hooks";
import { admitNew, hooksRefuse, planAdmitted, stepsText } from "../protocol/admission";
import { cborDecode, type Message, type Value } from "../protocol/node/cbor";
import { crc32c } from "../protocol/node/crc32c";
import { Plan, PlanHost, PlanNode, PlanTenant, PlanVm, Refusal } from "../protocol/planner";
import { ShareRule } from "../protocol/rules";
import * as schema from "../protocol/schema";
import type { AuditRecord } from "./audit";

/** What came of a record. */
export interface Replay {
  seq: number;
  /** "" when the same decision came out, else what is wrong. */
  problem: string;
  /** Why it could not be decided again, "" if it was. */
  skipped: string;
}

const map = (value: Value | undefined): Message =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
    ? value
    : {};
const list = (value: Value | undefined): Value[] => (Array.isArray(value) ? value : []);
const texts = (value: Value | undefined): string[] => list(value).map(String);
const text = (value: Value | undefined): string => (typeof value === "string" ? value : "");
const number = (value: Value | undefined): number => (typeof value === "number" ? value : 0);

function refusalOf(value: Message): Refusal {
  return new Refusal(number(value.code), text(value.message), text(value.object), text(value.next));
}

function tenantOf(value: Message): PlanTenant {
  const { memory, vms, vcpus, cpus, exits, ipis, hypercalls, log, cache, bandwidth } = value;
  return Object.assign(new PlanTenant(text(value.name)), {
    memory: number(memory),
    vms: number(vms),
    vcpus: number(vcpus),
    cpus: text(cpus),
    exits: number(exits),
    ipis: number(ipis),
    hypercalls: number(hypercalls),
    log: number(log),
    cache: number(cache),
    bandwidth: number(bandwidth),
    snapshots: number(value.snapshots ?? 0),
  });
}

function vmOf(value: Message): PlanVm {
  const vm = new PlanVm(text(value.name));
  vm.tenant = text(value.tenant);
  vm.vcpus = number(value.vcpus);
  vm.memory = number(value.memory);
  vm.cost = number(value.cost);
  vm.tags = texts(value.tags);
  vm.needs = number(value.needs);
  vm.frees = number(value.frees);
  vm.guarded = value.protected === true;
  vm.start = value.start === true;
  vm.up = value.running === true;
  vm.moved = value.moved === true;
  vm.node = number(value.node ?? -1);
  vm.networks = texts(value.networks);
  for (const [field, shown] of Object.entries(map(value.fields))) vm.set(field, text(shown));
  if (value.refusals !== undefined) vm.refusal = refusalOf(map(value.refusals));
  return vm;
}

function hostOf(value: Message): PlanHost {
  const host = new PlanHost();
  host.name = text(value.name);
  host.free = number(value.free);
  host.cpus = number(value.cpus);
  host.tenants = list(value.tenants).map((one) => tenantOf(map(one)));
  host.vms = list(value.vms).map((one) => vmOf(map(one)));
  host.rules = list(value.rules).map((one) => {
    const { tenants, share } = map(one);
    return Object.assign(new ShareRule(), { tenants: texts(tenants), share: texts(share) });
  });
  host.mitigations = text(value.mitigations);
  host.cores = list(value.cores).map(number);
  host.caches = list(value.caches).map(number);
  host.services = number(value.services);
  host.ways = number(value.ways);
  host.delay = number(value.delay);
  host.nodes = list(value.nodes).map((one) => {
    const { node, free, vcpus, cpus } = map(one);
    const more = { vcpus: number(vcpus), cpus: list(cpus).map(number) };
    return Object.assign(new PlanNode(number(node), number(free)), more);
  });
  return host;
}

/** The decision on these facts; null: they are of no kind that is known. */
function decide(facts: Message, hooks: Hooks): Plan | null {
  if (facts.op === schema.OP_APPLY) {
    const plan = planAdmitted(hostOf(map(facts.have)), hostOf(map(facts.want)), hooks);
    plan.refusals.unshift(...list(facts.faults).map((fault) => refusalOf(map(fault))));
    return plan;
  }
  const vm = vmOf(map(facts.vm));
  if (facts.op === schema.OP_CREATE)
    return admitNew(
      hostOf(map(facts.have)),
      tenantOf(map(facts.tenant)),
      list(facts.vms).map((one) => vmOf(map(one))),
      vm,
      hooks,
    );
  if (facts.op !== schema.OP_SET) return null;
  const plan = new Plan();
  const refusal = hooksRefuse(vm, hooks);
  if (refusal !== null) plan.refusals.push(refusal);
  return plan;
}

function hookVmOf(about: Message): HookVm {
  const vm = new HookVm(text(about.name));
  vm.tenant = text(about.tenant);
  vm.vcpus = number(about.vcpus);
  vm.memory = number(about.memory);
  vm.restarts = number(about.restarts);
  vm.tags = texts(about.tags);
  return vm;
}

/** In what the hooks want something else after an event than the host says they wanted, "" in nothing. */
function actionDifference(facts: Message, hooks: Hooks): string {
  const about = map(facts.vm);
  const vm = hookVmOf(about);
  const theirs = map(facts.verdict);
  if (facts.event === schema.FIELD_SCALE) {
    const { copies, min, max, cpu, free } = about;
    const asked = Object.assign(new HookScale(vm), {
      copies: number(copies),
      min: number(min),
      max: number(max),
      cpu: number(cpu),
      free: number(free),
    });
    const ours = Math.max(0, hooks.scale(asked));
    const said = number(theirs.copies);
    return said === ours ? "" : `the host wanted ${said} copies; it should have wanted ${ours}`;
  }
  const decided = `${text(theirs.action)} of ${text(theirs.vm)}: ${text(theirs.reason)}`;
  const action = hooks.onEvent(text(facts.event), vm);
  const ours = action ? `${action.action} of ${action.vm || vm.name}: ${action.reason}` : "nothing";
  return decided === ours ? "" : `the host did ${decided}; it should have done ${ours}`;
}

/** Characters of a message that the host keeps. */
const KEPT = 200;

/** In what the host's verdict differs from ours, "" in nothing. */
function difference(facts: Message, plan: Plan, record: AuditRecord): string {
  const theirs = map(facts.verdict);
  const [first] = plan.refusals;
  const code = first?.code ?? 0;
  const shown = (verdict: number, message: string): string =>
    verdict === 0 ? "allowed" : `refused (${verdict}): ${message}`;
  const decided = shown(number(theirs.code), text(theirs.message));
  const ours = shown(code, first?.message ?? "");
  if (number(theirs.code) !== code || number(theirs.refusals) !== plan.refusals.length)
    return `the host ${decided}; it should have ${ours}`;
  if (first && text(theirs.message).slice(0, KEPT - 5) !== first.message.slice(0, KEPT - 5))
    return `the host ${decided}; it should have ${ours}`;
  const isPlan = facts.op === schema.OP_APPLY;
  if (isPlan && number(theirs.digest) !== crc32c(Buffer.from(stepsText(plan))))
    return "the steps of its plan are others";
  if (code !== 0 && record.code !== code) return `it was ${decided}, and the log says code ${record.code}`;
  return "";
}

/** A VM that is made from a snapshot is admitted as a new one. */
const FROM_SNAPSHOT = [schema.OP_SNAPSHOT_CLONE, schema.OP_SNAPSHOT_RESTORE];

/** Decides a record again from what it rested on (null: that is gone). */
export function replayRecord(record: AuditRecord, bytes: Uint8Array | null, hooks: Hooks): Replay {
  const { seq } = record;
  const wrong = (problem: string): Replay => ({ seq, problem, skipped: "" });
  const skip = (skipped: string): Replay => ({ seq, problem: "", skipped });
  if (!record.facts || bytes === null) return skip("what it rested on is no longer kept");
  const hash = createHash("sha256").update(bytes).digest();
  if (!hash.equals(record.facts[2])) return wrong("what it rested on is not what the record has the hash of");
  const facts = cborDecode(bytes);
  if (facts === null) return wrong("what it rested on cannot be read");
  const kind = FROM_SNAPSHOT.includes(record.kind) ? schema.OP_CREATE : record.kind;
  if (facts.op !== kind) return wrong(`it rests on facts for '${text(facts.op)}'`);
  if (facts.hooks !== hooks.name())
    return skip(`it was decided with the policy hooks '${text(facts.hooks)}'`);
  if (facts.op === schema.EVENT_POLICY) return wrong(actionDifference(facts, hooks));
  const plan = decide(facts, hooks);
  return plan === null
    ? skip(`this plinth knows no decision of '${text(facts.op)}'`)
    : wrong(difference(facts, plan, record));
}
