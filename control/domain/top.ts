// What `top` is made of: the counters of the host and its VMs at one time, for the shell as a sample, for programs as
// a document.

import { CAP_SELF, DomainInfoAt, MAX_EXIT_REASONS, PAGE_SIZE } from "../gen/abi";
import { DomainInfo, VcpuInfo } from "../gen/layout";
import { domainInfo, vcpuInfo } from "../lib/binding";
import {
  FIELD_CAPS,
  FIELD_CONTROL,
  FIELD_COUNTERS,
  FIELD_CPUS,
  FIELD_EXITS,
  FIELD_FREE,
  FIELD_FROM,
  FIELD_HOST,
  FIELD_IDLE,
  FIELD_MEMORY,
  FIELD_MODEL,
  FIELD_NAME,
  FIELD_NEXT,
  FIELD_PAST,
  FIELD_READY,
  FIELD_RUN,
  FIELD_STARTS,
  FIELD_STATE,
  FIELD_TENANT,
  FIELD_TIME,
  FIELD_TOTAL,
  FIELD_VCPUS,
  FIELD_VMS,
  TENANT_DEFAULT,
} from "../protocol/schema";
import { UsageSample, UsageVm } from "../protocol/usage";
import { exitReasonName } from "./exit-reasons";
import { hostNow, info, ticksToUs } from "./host";
import { Outcome } from "./outcome";
import { countVcpus } from "./reports";
import { vmSlot, VmSlot } from "./slots";
import { Value } from "./value";
import { Vm } from "./vm";
import { hostNameGet, vmsAll } from "./vms";

/** Bytes of VMs in one reply, about. */
const BUDGET = 3300;

const modelPage: usize = memory.data(704, 16);
const domainPage: usize = memory.data(DomainInfoAt.SIZE, 16);

/** The most that was told: a CPU's last moments are read without stopping it. */
let toldIdle: i64 = 0;

function modelTime(vm: Vm): u64 {
  if (!vm.alive || vcpuInfo(vmSlot(vm.index, VmSlot.MODEL_VCPU), modelPage) < 0) return 0;
  return changetype<VcpuInfo>(modelPage).run_time;
}

function sampleVm(vm: Vm, at: i64): UsageVm {
  const out = new UsageVm(vm.name);
  const total = countVcpus(vm);
  out.tenant = vm.spec.tenant;
  out.state = vm.state;
  out.vcpus = vm.spec.vcpus;
  out.memory = vm.spec.memory;
  out.starts = vm.generation;
  out.at = at;
  if (!vm.alive) return out;
  vm.told.raise(vm.generation, ticksToUs(total.run_time), ticksToUs(modelTime(vm)));
  out.run = vm.told.run;
  out.model = vm.told.model;
  out.ready = ticksToUs(total.ready_time);
  out.exits = total.exits;
  for (let reason = 0; reason < MAX_EXIT_REASONS; reason++) {
    if (total.counters[reason] == 0) continue;
    out.reasons.push(exitReasonName(reason));
    out.counts.push(total.counters[reason]);
  }
  return out;
}

function sampleHost(): UsageSample {
  const out = new UsageSample();
  const host = hostNow();
  toldIdle = max(toldIdle, <i64>ticksToUs(host.idle_time));
  out.time = ticksToUs(host.uptime);
  out.idle = toldIdle;
  out.cpus = info().cpus;
  return out;
}

/** All counters of this moment. */
export function topSample(): UsageSample {
  const out = sampleHost();
  const all = vmsAll();
  for (let i = 0; i < all.length; i++) out.vms.push(sampleVm(all[i], out.time));
  return out;
}

function capsHeld(): u32 {
  return domainInfo(CAP_SELF, domainPage) < 0 ? 0 : changetype<DomainInfo>(domainPage).caps;
}

function vmValue(vm: UsageVm): Value {
  const counters = Value.map();
  for (let i = 0; i < vm.reasons.length; i++) counters.putUint(vm.reasons[i], vm.counts[i]);
  const value = Value.map()
    .putText(FIELD_NAME, vm.name)
    .putText(FIELD_STATE, vm.state)
    .putUint(FIELD_VCPUS, vm.vcpus)
    .putUint(FIELD_MEMORY, vm.memory)
    .putUint(FIELD_STARTS, vm.starts)
    .putUint(FIELD_RUN, vm.run)
    .putUint(FIELD_READY, vm.ready)
    .putUint(FIELD_MODEL, vm.model)
    .putUint(FIELD_EXITS, vm.exits)
    .put(FIELD_COUNTERS, counters);
  return vm.tenant == TENANT_DEFAULT ? value : value.putText(FIELD_TENANT, vm.tenant);
}

/** The result of `top`: as many VMs from number `from` on as a frame holds. */
export function topResult(request: Value): Outcome {
  const host = sampleHost();
  const memory = hostNow();
  const all = vmsAll();
  const rows = Value.list();
  let budget: i32 = BUDGET;
  let next = <i32>min<u64>(request.getUint(FIELD_FROM), all.length);
  for (; next < all.length; next++) {
    const vm = sampleVm(all[next], host.time);
    budget -= 220;
    for (let i = 0; i < vm.reasons.length; i++) budget -= vm.reasons[i].length + 11;
    if (budget < 0 && rows.items.length > 0) break;
    rows.add(vmValue(vm));
  }
  const result = Value.map()
    .putText(FIELD_HOST, hostNameGet())
    .putUint(FIELD_TIME, host.time)
    .putUint(FIELD_IDLE, host.idle)
    .putUint(FIELD_CONTROL, ticksToUs(memory.control_time))
    .putUint(FIELD_PAST, ticksToUs(memory.past_time))
    .putUint(FIELD_CAPS, capsHeld())
    .putUint(FIELD_CPUS, host.cpus)
    .putUint(FIELD_TOTAL, memory.total_pages * PAGE_SIZE)
    .putUint(FIELD_FREE, memory.free_pages * PAGE_SIZE)
    .put(FIELD_VMS, rows);
  return Outcome.of(next < all.length ? result.putUint(FIELD_NEXT, next) : result);
}
