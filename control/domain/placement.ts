// What domains share of the host's CPUs: in time, as threads of a core, as users of a cache. And how findings are told.

import { VcpuInfo } from "../gen/layout";
import { vcpuInfo } from "../lib/binding";
import { cpuList } from "../protocol/cpus";
import { sharedUnit } from "../protocol/planner";
import { mayShare, SHARE_CACHES, SHARE_CORES } from "../protocol/rules";
import {
  DIRECTION_NONE,
  FIELD_ALLOWED,
  FIELD_DIRECTION,
  FIELD_KIND,
  FIELD_ONE,
  FIELD_OTHER,
  FIELD_REASON,
  FIELD_TEXT,
  FLOW_CACHES,
  FLOW_CORES,
  FLOW_CPUS,
} from "../protocol/schema";
import { info } from "./host";
import { rulesAll } from "./rules";
import { vmSlot, VmSlot } from "./slots";
import { Tenant, tenantFind } from "./tenants";
import { clean, quoted } from "./text";
import { cacheUnits, coreUnits } from "./topology";
import { Value } from "./value";
import { Vm } from "./vm";

const MAX_TEXT = 240;
const vcpuPage: usize = memory.data(704, 16);

/** What is found, with its verdict. */
export class Finding {
  constructor(
    public kind: string,
    public one: string,
    public other: string,
    public direction: string,
    public text: string,
    public allowed: bool,
    public reason: string,
  ) {}

  /** Bytes of it in a reply, at most. */
  get size(): i32 {
    const words = this.one.length + this.other.length + this.reason.length;
    return 110 + 3 * min(this.text.length, MAX_TEXT) + words;
  }

  toValue(): Value {
    return Value.map()
      .putText(FIELD_KIND, this.kind)
      .putText(FIELD_ONE, this.one)
      .putText(FIELD_OTHER, this.other)
      .putText(FIELD_DIRECTION, this.direction)
      .putText(FIELD_TEXT, clean(this.text, MAX_TEXT))
      .putBool(FIELD_ALLOWED, this.allowed)
      .putText(FIELD_REASON, this.reason);
  }
}

/** The CPUs on which VMs may run. */
function cpusOf(vms: Vm[]): i32[] {
  const out: i32[] = [];
  for (let i = 0; i < vms.length; i++) {
    const tenant = tenantFind(vms[i].spec.tenant);
    const bound = tenant != null ? cpuList(tenant.cpus) : [];
    const own = cpuList(vms[i].spec.share.cpus);
    for (let cpu = 0; cpu < <i32>info().cpus; cpu++)
      if (!out.includes(cpu) && (bound.length == 0 || bound.includes(cpu)))
        if (own.length == 0 || own.includes(cpu)) out.push(cpu);
  }
  return out;
}

/** Where the vCPUs of VMs are now: "0,2". */
function homesOf(vms: Vm[]): string {
  const homes: i32[] = [];
  for (let i = 0; i < vms.length; i++)
    for (let n: u32 = 0; vms[i].alive && n < vms[i].spec.vcpus; n++) {
      if (vcpuInfo(vmSlot(vms[i].index, VmSlot.VCPU) + n, vcpuPage) < 0) continue;
      const cpu = <i32>changetype<VcpuInfo>(vcpuPage).cpu;
      if (!homes.includes(cpu)) homes.push(cpu);
    }
  return homes.length > 0 ? homes.join(",") : "none";
}

/** Whether two tenants may share what a rule allows, and why; both that say where they run need one. */
class Verdict {
  allowed: bool = true;
  reason: string = "";

  constructor(one: Tenant, other: Tenant, share: string) {
    if (one.name == other.name) this.reason = "both are tenant " + quoted(one.name) + "'s";
    else if (mayShare(rulesAll(), one.name, other.name, share))
      this.reason = "a rule lets them share " + share;
    else if (one.cpus == "" || other.cpus == "") this.reason = "not both have CPUs of their own";
    else {
      this.allowed = false;
      this.reason =
        "no rule lets tenants " + quoted(one.name) + " and " + quoted(other.name) + " share " + share;
    }
  }
}

/** What VMs of one tenant and VMs of another, or the same, share of the host's CPUs. */
export function findPlaces(ones: Vm[], others: Vm[], name: string, otherName: string, out: Finding[]): void {
  const one = ones.length > 0 ? tenantFind(ones[0].spec.tenant) : null;
  const other = others.length > 0 ? tenantFind(others[0].spec.tenant) : null;
  if (one == null || other == null) return;
  const first = cpusOf(ones);
  const second = cpusOf(others);
  const cores = new Verdict(one, other, SHARE_CORES);
  const same: i32[] = [];
  for (let i = 0; i < second.length; i++) if (first.includes(second[i])) same.push(second[i]);
  const core = sharedUnit(first, second, coreUnits());
  if (same.length > 0) {
    const text =
      "CPUs " + same.join(",") + ", one after the other; they are on " + homesOf(ones) + " and on ";
    out.push(place(FLOW_CPUS, name, otherName, text + homesOf(others), cores));
  } else if (core >= 0) {
    out.push(
      place(FLOW_CORES, name, otherName, "threads of one core: that of CPU " + core.toString(), cores),
    );
  }
  const cached = sharedUnit(first, second, cacheUnits());
  if (cached < 0) return;
  const caches = new Verdict(one, other, SHARE_CACHES);
  out.push(
    place(FLOW_CACHES, name, otherName, "a last-level cache: that of CPU " + cached.toString(), caches),
  );
}

function place(kind: string, one: string, other: string, text: string, verdict: Verdict): Finding {
  return new Finding(kind, one, other, DIRECTION_NONE, text, verdict.allowed, verdict.reason);
}
