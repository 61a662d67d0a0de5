// The specification of a whole host, checked as hostile input.

import {
  ErrorCode,
  FIELD_HOST,
  FIELD_MITIGATIONS,
  FIELD_NAME,
  FIELD_RULES,
  FIELD_TENANTS,
  FIELD_VERSION,
  FIELD_VMS,
  Specification,
  TENANT_DEFAULT,
} from "../protocol/schema";
import { ShareRule } from "../protocol/rules";
import { Fault } from "./outcome";
import { bad, checkFields, isName, readVmSpec, takeProblem, VmSpec } from "./spec";
import { Mitigations, readMitigations } from "./mitigations";
import { readRules } from "./rules";
import { readTenants, Tenant } from "./tenants";
import { Kind, Value } from "./value";

export class HostSpec {
  name: string = "plinth";
  tenants: Tenant[] = [new Tenant(TENANT_DEFAULT)];
  rules: ShareRule[] = [];
  mitigations: Mitigations = new Mitigations();
  vms: VmSpec[] = [];
  faults: Fault[] = [];

  fault(text: string, next: string): void {
    this.faults.push(new Fault(ErrorCode.USAGE, "host specification: " + text, "spec", next));
  }
}

const HOST_FIELDS: string[] = [
  FIELD_VERSION,
  FIELD_HOST,
  FIELD_TENANTS,
  FIELD_RULES,
  FIELD_MITIGATIONS,
  FIELD_VMS,
];

/** Reads a host specification; what is wrong is left out and gives a fault each. */
export function readHostSpec(value: Value | null): HostSpec {
  const host = new HostSpec();
  takeProblem();
  if (value == null || value.kind != Kind.MAP) {
    bad("it is not a CBOR map");
  } else {
    checkFields(value, HOST_FIELDS, "");
    if (value.getUint(FIELD_VERSION) != Specification.VERSION)
      bad("version is " + value.getUint(FIELD_VERSION).toString() + ", this control domain reads 1");
  }
  const wrong = takeProblem();
  if (wrong != "") {
    host.fault(wrong, "images");
    return host;
  }
  const about = value!.get(FIELD_HOST);
  if (about != null) {
    if (about.kind == Kind.MAP) checkFields(about, [FIELD_NAME], " in host");
    const problem = takeProblem();
    if (problem != "") host.fault(problem, "status");
    const name = about.getText(FIELD_NAME, "");
    if (isName(name)) host.name = name;
    else host.fault("host.name is no name", "status");
  }
  host.tenants = readTenants(value!.get(FIELD_TENANTS));
  const tenants = takeProblem();
  if (tenants != "") host.fault(tenants, "tenants");
  const rules = readRules(value!.get(FIELD_RULES));
  const wrongRules = takeProblem();
  if (wrongRules != "") host.fault(wrongRules, "tenants");
  else host.rules = rules;
  const mitigations = readMitigations(value!.get(FIELD_MITIGATIONS));
  const wrongLevels = takeProblem();
  if (wrongLevels != "") host.fault(wrongLevels, "hardware");
  else host.mitigations = mitigations;
  const vms = value!.get(FIELD_VMS);
  if (vms == null || vms.kind != Kind.LIST) host.fault("it has no list vms", "help create");
  readVms(host, value!.getList(FIELD_VMS));
  return host;
}

function readVms(host: HostSpec, vms: Value[]): void {
  for (let i = 0; i < vms.length; i++) {
    if (i == Specification.MAX_VMS) {
      host.fault("only the first " + i.toString() + " VMs are taken", "ls");
      return;
    }
    const read = readVmSpec(vms[i], "vms[" + i.toString() + "]");
    if (read.fault != null) host.faults.push(read.fault!);
    else host.vms.push(read.spec!);
  }
}
