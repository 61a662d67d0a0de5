// What of a specification cannot be on any host, found out by the planner without one.

import { exactSize, type Plan, planChange, PlanHost, PlanTenant, PlanVm } from "../protocol/planner";
import type { MitigationsSpec, TenantSpec, VmSpec } from "./results";
import type { HostSpec } from "./spec";
import { SIZES } from "./spec-schema";
import * as schema from "../protocol/schema";

/** From a host without VMs and with all the memory there can be; a quota counts no more than the VMs' own memory. */
export function planOffline(spec: HostSpec): Plan {
  const empty = new PlanHost();
  empty.free = Number.MAX_SAFE_INTEGER;
  empty.mitigations = mitigationsText();
  return planChange(empty, planHost(spec));
}

function planHost(spec: HostSpec): PlanHost {
  const host = new PlanHost();
  host.name = spec.host?.name ?? "";
  host.tenants = (spec.tenants ?? []).map(planTenant);
  if (!host.tenants.some(({ name }) => name === schema.TENANT_DEFAULT))
    host.tenants.unshift(new PlanTenant(schema.TENANT_DEFAULT));
  host.rules = spec.rules ?? [];
  host.mitigations = mitigationsText(spec.mitigations);
  host.vms = spec.vms.map((vm) => planVm(vm));
  return host;
}

/** As the control domain tells it to its planner. */
export function mitigationsText({ between, within, exits }: MitigationsSpec = {}): string {
  const level = (given?: string): string => given ?? schema.LEVEL_NEEDED;
  return `between ${level(between)}, within ${level(within)}, exits ${level(exits)}`;
}

export function planTenant(tenant: TenantSpec): PlanTenant {
  const out = new PlanTenant(tenant.name);
  out.memory = tenant.memory ?? 0;
  out.vms = tenant.vms ?? 0;
  out.vcpus = tenant.vcpus ?? 0;
  out.cpus = tenant.cpus ?? "";
  out.exits = tenant.exits ?? 0;
  out.ipis = tenant.ipis ?? 0;
  out.hypercalls = tenant.hypercalls ?? 0;
  out.log = tenant.log ?? 0;
  out.cache = tenant.cache ?? 0;
  out.bandwidth = tenant.bandwidth ?? 0;
  return out;
}

/** A VM with its fields as the control domain tells them to its planner. */
export function planVm(vm: VmSpec): PlanVm {
  const out = new PlanVm(vm.name);
  out.tenant = vm.tenant ?? schema.TENANT_DEFAULT;
  out.vcpus = vm.vcpus ?? 1;
  out.cost = vm.memory;
  out.needs = vm.memory;
  out.guarded = vm.protected ?? false;
  out.start = vm.start ?? true;
  out.networks = (vm.networks ?? []).map(({ network }) => network);
  for (const [field, value] of Object.entries(vm))
    if (field !== schema.FIELD_NAME) out.set(field, textOf(field, value));
  return out;
}

function textOf(field: string, value: unknown): string {
  if (typeof value === "number") return SIZES.includes(field) ? exactSize(value) : String(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return `"${value}"`;
  if (Array.isArray(value)) return `[${value.map((item) => textOf("", item)).join(", ")}]`;
  const fields = Object.entries(value as object).map(([key, item]) => `${key} ${textOf(key, item)}`);
  return `{${fields.join(", ")}}`;
}
