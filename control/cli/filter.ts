// Conditions on VMs, as `plinth ls` takes them: "state=running", "tag=web", "name=web-*".

import * as schema from "../protocol/schema";
import { usageError } from "./errors";
import { nearest } from "./nearest";
import type { VmRow } from "./results";

/** What each condition compares with: a VM has any of these values. */
const VALUES: Record<string, (vm: VmRow) => readonly string[]> = {
  name: (vm) => [vm.name],
  state: (vm) => [vm.state],
  tenant: (vm) => [vm.tenant ?? schema.TENANT_DEFAULT],
  tag: (vm) => vm.tags ?? [],
  protected: (vm) => [vm.protected ? "yes" : "no"],
};

export const FILTER_KEYS: readonly string[] = Object.keys(VALUES).map((key) => `${key}=`);

/** The VMs for which all conditions hold. A value may have "*", and alternatives with commas. */
export function filterVms(vms: readonly VmRow[], conditions: readonly string[]): VmRow[] {
  const tests = conditions.map(parseCondition);
  return vms.filter((vm) => tests.every((test) => test(vm)));
}

function parseCondition(text: string): (vm: VmRow) => boolean {
  const [, key, value] = /^([a-z]+)=(.+)$/s.exec(text) ?? [];
  const values = key !== undefined && Object.hasOwn(VALUES, key) ? VALUES[key] : undefined;
  if (values === undefined) {
    const meant = nearest(text.split("=")[0]!, Object.keys(VALUES));
    const hint = meant ? `; did you mean '${meant}='?` : `; write for instance ${schema.FIELD_STATE}=running`;
    throw usageError(`'${text}' is no condition${hint}`, "plinth help ls");
  }
  const patterns = value!.split(",").map(pattern);
  return (vm) => values(vm).some((found) => patterns.some((one) => one.test(found)));
}

function pattern(text: string): RegExp {
  const escaped = text.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*");
  return new RegExp(`^${escaped}$`);
}
