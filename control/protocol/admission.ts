/*
 * Admission: what the planner's rules and the policy hooks together say of a new VM and of a whole specification.
 *
 * Portable, like the planner: the control domain decides with it, and `plinth audit replay` decides again.
 */

import { Hooks, HookVm } from "../domain/hooks/hooks";
import {
  checkIsolation,
  checkQuota,
  Plan,
  planChange,
  PlanHost,
  PlanTenant,
  PlanVm,
  Refusal,
} from "./planner";
import { DENIED_HOOKS, ErrorCode } from "./schema";

function at<T>(list: T[], index: i32): T {
  return list[index] as T;
}

/** Why hooks forbid a VM; null: they do not. */
export function hooksRefuse(vm: PlanVm, hooks: Hooks): Refusal | null {
  const facts = new HookVm(vm.name);
  facts.tenant = vm.tenant;
  facts.memory = vm.memory;
  facts.vcpus = vm.vcpus;
  facts.tags = vm.tags;
  const reason = hooks.admit(facts);
  if (reason == "") return null;
  const refusal = new Refusal(ErrorCode.DENIED, 'VM "' + vm.name + '": ' + reason, vm.name, "tenants");
  refusal.denied = DENIED_HOOKS;
  refusal.tenant = vm.tenant;
  return refusal;
}

/**
 * Whether a VM may join those of its tenant. `vms` are of the tenant, if that has limits; `host` knows the tenants and
 * the CPUs, if it has CPUs of its own.
 */
export function admitNew(host: PlanHost, tenant: PlanTenant, vms: PlanVm[], vm: PlanVm, hooks: Hooks): Plan {
  const plan = new Plan();
  const own = new Plan();
  checkIsolation(host, host, own);
  checkQuota(tenant, vms.concat([vm]), own);
  for (let i = 0; i < own.refusals.length; i++) {
    const refusal = at(own.refusals, i);
    if (refusal.object != tenant.name) continue;
    const text = 'VM "' + vm.name + '": ' + refusal.message;
    const ours = new Refusal(refusal.code, text, vm.name, refusal.next);
    ours.denied = refusal.denied;
    ours.tenant = refusal.tenant;
    plan.refusals.push(ours);
  }
  const refusal = hooksRefuse(vm, hooks);
  if (refusal != null) plan.refusals.push(refusal);
  return plan;
}

/** The planner's plan, without steps that hooks forbid. */
export function planAdmitted(have: PlanHost, want: PlanHost, hooks: Hooks): Plan {
  const plan = planChange(have, want);
  for (let i = 0; i < want.vms.length; i++) {
    const refusal = hooksRefuse(at(want.vms, i), hooks);
    if (refusal != null) plan.refusals.push(refusal);
  }
  return plan;
}

/** The steps of a plan as text, of which its digest is made. */
export function stepsText(plan: Plan): string {
  let text = "";
  for (let i = 0; i < plan.steps.length; i++) {
    const step = at(plan.steps, i);
    text += step.action + " " + step.object + " " + step.reason + "\n";
  }
  return text;
}
