// What an administrator does with tenants while the host runs: gives one limits, makes one, removes one.

import { checkQuota, Plan, PlanVm } from "../protocol/planner";
import {
  ErrorCode,
  EVENT_TENANT_CHANGED,
  EVENT_TENANT_REMOVED,
  FIELD_BANDWIDTH,
  FIELD_CACHE,
  FIELD_CPUS,
  FIELD_NAME,
  FIELD_SPEC,
  FIELD_TENANT,
  Specification,
  TENANT_DEFAULT,
} from "../protocol/schema";
import { emit } from "./events";
import { Fault, Outcome } from "./outcome";
import { planCost, planTenant, planTenants } from "./planning";
import { tenantRow } from "./reports";
import { denialsKeep, policyDenied, rulesAll } from "./rules";
import { sharesMove } from "./shares";
import { checkFields, isName, takeProblem } from "./spec";
import {
  noSuchTenant,
  readLimits,
  Tenant,
  tenantFind,
  tenantNames,
  tenantsAll,
  TENANT_FIELDS,
  tenantsSet,
} from "./tenants";
import { clean, counted, quoted } from "./text";
import { Kind, Value } from "./value";
import { Vm } from "./vm";
import { hostSave, vmsAll } from "./vms";

function fail(code: ErrorCode, name: string, text: string, next: string): Outcome {
  return Outcome.fail(new Fault(code, "tenant " + quoted(name) + ": " + text, clean(name, 60), next));
}

/** Gives a tenant limits, or makes it: {name, memory, vms, vcpus, cpus, exits, ipis, hypercalls, log, cache, bandwidth}. What is missing stays; 0: no limit. */
export function tenantSet(request: Value): Outcome {
  const spec = request.get(FIELD_SPEC);
  const name = spec != null ? spec.getText(FIELD_NAME) : "";
  if (spec == null || spec.kind != Kind.MAP || !isName(name))
    return fail(ErrorCode.USAGE, name, "that is no name: a-z, 0-9 and -, at most 27", "help tenant");
  const old = tenantFind(name);
  const tenant = new Tenant(name);
  if (old != null) tenant.copyLimits(old);
  takeProblem();
  checkFields(spec, TENANT_FIELDS, "");
  readLimits(spec, tenant, 0);
  const problem = takeProblem();
  if (problem != "") return fail(ErrorCode.USAGE, name, problem, "help tenant");
  if (old == null && tenantsAll().length >= <i32>Specification.MAX_TENANTS)
    return fail(ErrorCode.FAILED, name, "there are as many tenants as a host can have", "tenants");
  const plan = new Plan();
  checkQuota(
    planTenant(tenant),
    vmsAll().map<PlanVm>((vm: Vm): PlanVm => planCost(vm)),
    plan,
  );
  const list: Tenant[] = [];
  const all = tenantsAll();
  for (let i = 0; i < all.length; i++) list.push(all[i].name == name ? tenant : all[i]);
  if (old == null) list.push(tenant);
  const apart = spec.get(FIELD_CACHE) != null || spec.get(FIELD_BANDWIDTH) != null;
  if (apart || spec.get(FIELD_CPUS) != null)
    plan.refusals = plan.refusals.concat(planTenants(list, rulesAll()));
  if (plan.refusals.length > 0) {
    const refusal = plan.refusals[0];
    if (refusal.denied != "") policyDenied(name, refusal.denied, "", refusal.message);
    return Outcome.fail(new Fault(refusal.code, refusal.message, name, refusal.next));
  }
  tenantsSet(list);
  sharesMove(vmsAll(), all);
  hostSave();
  emit(
    EVENT_TENANT_CHANGED,
    "",
    "tenant " + quoted(name) + (old == null ? " was made" : " has other limits"),
  );
  return Outcome.of(tenantRow(tenant));
}

/** Removes a tenant that has no VMs. */
export function tenantRemove(request: Value): Outcome {
  const name = request.getText(FIELD_TENANT);
  const tenant = tenantFind(name);
  if (tenant == null) return Outcome.fail(noSuchTenant("", name));
  if (name == TENANT_DEFAULT) return fail(ErrorCode.DENIED, name, "it is always there", "tenants");
  const names: string[] = [];
  const vms = vmsAll();
  for (let i = 0; i < vms.length; i++) if (vms[i].spec.tenant == name) names.push(vms[i].name);
  if (names.length > 0)
    return fail(
      ErrorCode.WRONG_STATE,
      name,
      "it has " + counted(names.length, "VM") + ": " + names.join(", "),
      "rm " + names[0],
    );
  const rules = rulesAll();
  for (let i = 0; i < rules.length; i++)
    if (rules[i].tenants.includes(name))
      return fail(ErrorCode.WRONG_STATE, name, "rules[" + i.toString() + "] names it", "help apply");
  const row = tenantRow(tenant);
  const list: Tenant[] = [];
  const all = tenantsAll();
  for (let i = 0; i < all.length; i++) if (all[i] != tenant) list.push(all[i]);
  tenantsSet(list);
  denialsKeep(tenantNames());
  hostSave();
  emit(EVENT_TENANT_REMOVED, "", "tenant " + quoted(name) + " was removed");
  return Outcome.of(row);
}
