// How a VM gets its CPU time: what a specification says of it, and what the kernel is told.

import { ScheduleClass, Status } from "../gen/abi";
import { VcpuShare } from "../gen/layout";
import { vcpuShare } from "../lib/binding";
import { cpuList } from "../protocol/cpus";
import {
  EVENT_SPEC_ERROR,
  FIELD_CAP,
  FIELD_CPUS,
  FIELD_LATENCY,
  FIELD_PERIOD,
  FIELD_RESERVE,
  FIELD_SCHEDULING,
  FIELD_WEIGHT,
  SCHEDULING_DEDICATED,
  SCHEDULING_RESERVED,
  SCHEDULING_SHARED,
} from "../protocol/schema";
import { emit } from "./events";
import { info } from "./host";
import { nearCpus } from "./nodes";
import { Tenant, tenantsAll } from "./tenants";
import { vmSlot, VmSlot } from "./slots";
import { Value } from "./value";
import { Vm } from "./vm";

const WEIGHT_USUAL: u32 = 100;
const PERIOD_USUAL: u32 = 10;
const LATENCY_USUAL: u32 = 20;

/** Of each vCPU; 0 and "": not given. */
export class ShareSpec {
  scheduling: string = SCHEDULING_SHARED;
  weight: u32 = 0;
  /** Percent of a CPU: at most, of a shared one; at least, of a reserved one. */
  cap: u32 = 0;
  reserve: u32 = 0;
  /** Milliseconds. */
  period: u32 = 0;
  latency: u32 = 0;
  /** The host's CPUs that it may run on, as "0-3,6". */
  cpus: string = "";

  addTo(value: Value): void {
    if (this.scheduling != SCHEDULING_SHARED) value.putText(FIELD_SCHEDULING, this.scheduling);
    if (this.weight > 0) value.putUint(FIELD_WEIGHT, this.weight);
    if (this.cap > 0) value.putUint(FIELD_CAP, this.cap);
    if (this.reserve > 0) value.putUint(FIELD_RESERVE, this.reserve);
    if (this.period > 0) value.putUint(FIELD_PERIOD, this.period);
    if (this.latency > 0) value.putUint(FIELD_LATENCY, this.latency);
    if (this.cpus != "") value.putText(FIELD_CPUS, this.cpus);
  }

  equals(other: ShareSpec): bool {
    return (
      this.scheduling == other.scheduling &&
      this.weight == other.weight &&
      this.cap == other.cap &&
      this.reserve == other.reserve &&
      this.period == other.period &&
      this.latency == other.latency &&
      this.cpus == other.cpus
    );
  }

  /** What contradicts itself in it, or "". */
  problem(): string {
    const reserved = this.scheduling == SCHEDULING_RESERVED;
    if (!reserved && this.scheduling != SCHEDULING_SHARED && this.scheduling != SCHEDULING_DEDICATED)
      return "scheduling is " + this.scheduling + ", it must be shared, reserved or dedicated";
    if (reserved && this.reserve == 0) return "scheduling is reserved, and reserve does not say how much";
    if (!reserved && this.reserve > 0) return "reserve is for what has scheduling reserved";
    if (this.cap > 0 && this.scheduling != SCHEDULING_SHARED) return "cap is for what has scheduling shared";
    if (this.scheduling == SCHEDULING_DEDICATED && this.weight > 0)
      return "weight is not for what has a CPU for itself";
    if (this.cpus != "" && cpuList(this.cpus).length == 0)
      return "cpus is no set of CPUs in rising order, as 0-3,6";
    return "";
  }
}

/** What it asks of each CPU, in words: "25 % of a CPU". */
export function shareText(share: ShareSpec): string {
  const where = share.cpus != "" ? " of CPUs " + share.cpus : "";
  if (share.scheduling == SCHEDULING_DEDICATED) return "a CPU" + where + " for itself";
  if (share.scheduling == SCHEDULING_RESERVED) return share.reserve.toString() + " % of a CPU" + where;
  return "a CPU" + where;
}

const asked = memory.data(48, 8);

/** The CPUs of a VM's tenant, "": all. */
export function tenantCpus(tenants: Tenant[], vm: Vm): string {
  for (let i = 0; i < tenants.length; i++) if (tenants[i].name == vm.spec.tenant) return tenants[i].cpus;
  return "";
}

function maskOf(list: i32[]): u64 {
  let mask: u64 = 0;
  for (let i = 0; i < list.length; i++) if (list[i] < 64) mask |= (<u64>1) << list[i];
  return mask;
}

/** The CPUs of a specification, of those of its tenant, of which policy hooks may choose some. */
function cpusOf(vm: Vm, share: ShareSpec): u64 {
  const bound = tenantCpus(tenantsAll(), vm);
  const allowed = bound != "" ? maskOf(cpuList(bound)) : u64.MAX_VALUE;
  const wanted = allowed & (share.cpus != "" ? maskOf(cpuList(share.cpus)) : u64.MAX_VALUE);
  const placed = wanted & maskOf(vm.placed);
  return placed != 0 ? placed : wanted;
}

function give(vcpu: u32, share: ShareSpec, cpus: u64, component: bool): i64 {
  const form = changetype<VcpuShare>(asked);
  const hz = info().tsc_hz;
  const shared = component || share.scheduling == SCHEDULING_SHARED;
  const part: u64 = component ? 0 : share.cap + share.reserve;
  const period = (hz / 1000) * (share.period > 0 ? share.period : PERIOD_USUAL);
  const reserved = share.scheduling == SCHEDULING_RESERVED;
  form.scheduling = shared
    ? ScheduleClass.SHARED
    : reserved
      ? ScheduleClass.RESERVED
      : ScheduleClass.DEDICATED;
  form.weight = share.weight > 0 ? share.weight : shared ? WEIGHT_USUAL : 0;
  form.budget = (period * part) / 100;
  form.period = part > 0 ? period : 0;
  form.latency = (hz / 1000) * (share.latency > 0 ? share.latency : LATENCY_USUAL);
  form.cpus = cpus;
  return vcpuShare(vcpu, asked);
}

/** The CPUs on which a VM may run. */
export function vmCpus(vm: Vm): i32[] {
  const out: i32[] = [];
  const mask = cpusOf(vm, vm.spec.share);
  for (let cpu = 0; cpu < <i32>info().cpus; cpu++) if (((mask >> cpu) & 1) != 0) out.push(cpu);
  return out;
}

/**
 * Gives a VM's vCPUs, and its device model, their shares: on its node, unless its specification says where or there are
 * too few CPUs. NO_QUOTA: a CPU for one of them is lacking.
 */
export function sharesGive(vm: Vm, share: ShareSpec): i64 {
  const cpus = cpusOf(vm, share);
  const near = share.cpus == "" ? nearCpus(vm, cpus) : cpus;
  const status = giveOn(vm, share, near);
  return status == -(<i64>Status.NO_QUOTA) && near != cpus ? giveOn(vm, share, cpus) : status;
}

function giveOn(vm: Vm, share: ShareSpec, cpus: u64): i64 {
  for (let n: u32 = 0; n < vm.spec.vcpus; n++) {
    const status = give(vmSlot(vm.index, VmSlot.VCPU) + n, share, cpus, false);
    if (status < 0) return status;
  }
  const status = give(vmSlot(vm.index, VmSlot.MODEL_VCPU), share, cpus, true);
  /* Its vCPUs may have all the CPUs of the set for themselves: it runs there, on their time. */
  return status == -(<i64>Status.NO_QUOTA)
    ? give(vmSlot(vm.index, VmSlot.MODEL_VCPU), share, u64.MAX_VALUE, true)
    : status;
}

/** What was promised to a VM may go to others now. */
export function sharesReturn(vm: Vm): void {
  sharesGive(vm, new ShareSpec());
}

/** Takes VMs to where their tenants are now: `before` is where those were. */
export function sharesMove(vms: Vm[], before: Tenant[]): void {
  const moved: Vm[] = [];
  for (let i = 0; i < vms.length; i++)
    if (vms[i].alive && tenantCpus(before, vms[i]) != tenantCpus(tenantsAll(), vms[i])) moved.push(vms[i]);
  for (let i = 0; i < moved.length; i++) sharesReturn(moved[i]);
  for (let i = 0; i < moved.length; i++)
    if (sharesGive(moved[i], moved[i].spec.share) < 0)
      emit(
        EVENT_SPEC_ERROR,
        moved[i].name,
        "its tenant's CPUs do not have " + shareText(moved[i].spec.share),
      );
}
