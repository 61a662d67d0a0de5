// The longer result documents: the host's status, everything about a VM, and the doctor's checks.

import { Feature, MAX_EXIT_REASONS, PAGE_SIZE, VcpuInfoAt } from "../gen/abi";
import { DomainInfo, VcpuInfo } from "../gen/layout";
import { domainInfo, vcpuInfo } from "../lib/binding";
import {
  FIELD_BAD_FRAMES,
  FIELD_CHECKS,
  FIELD_CONTROL_RESTARTS,
  FIELD_COUNTERS,
  FIELD_CPU,
  FIELD_CPUS,
  FIELD_EXITS,
  FIELD_FEATURES,
  FIELD_FORWARDED,
  FIELD_FREE,
  FIELD_HOST,
  FIELD_INTERRUPTS,
  FIELD_KERNEL,
  FIELD_KERNEL_BYTES,
  FIELD_LAST_EXIT,
  FIELD_MAPPED,
  FIELD_MEMORY,
  FIELD_MODEL_BYTES,
  FIELD_NAME,
  FIELD_OK,
  FIELD_OVERHEAD,
  FIELD_OVERRUNS,
  FIELD_RESERVED,
  FIELD_RESTARTS,
  FIELD_RIG,
  FIELD_RUNNING,
  FIELD_RUNTIME_MS,
  FIELD_SPEC,
  FIELD_TEXT,
  FIELD_TOTAL,
  FIELD_UPTIME_MS,
  FIELD_VERSION,
  FIELD_VMS,
  STATE_PAUSED,
  STATE_RUNNING,
} from "../protocol/schema";
import { exitReasonName } from "./exit-reasons";
import { cpuName, findModule, hostNow, info, rigName, ticksToMs, uptimeMs } from "./host";
import { lineBadFrames } from "./line";
import { vmSlot, VmSlot } from "./slots";
import { bootProblems } from "./boot";
import { counted, mib } from "./text";
import { uartOverruns } from "./uart";
import { Value } from "./value";
import { VERSION } from "./version";
import { Vm } from "./vm";
import { modelBytes } from "./vm-builder";
import { hostNameGet, vmsAll } from "./vms";

const domainPage: usize = memory.data(128, 16);
const vcpuPage: usize = memory.data(704, 16);
const totalPage: usize = memory.data(704, 16);

class FeatureName {
  constructor(
    public bit: u32,
    public name: string,
    public text: string,
    public wanted: bool,
  ) {}
}

const FEATURES: FeatureName[] = [
  new FeatureName(Feature.VPID, "vpid", "VPID: a VM switch keeps the TLB", true),
  new FeatureName(Feature.UNRESTRICTED, "unrestricted-guest", "unrestricted guest: VMs in real mode", true),
  new FeatureName(
    Feature.PREEMPTION_TIMER,
    "preemption-timer",
    "VMX preemption timer: exact time slices",
    true,
  ),
  new FeatureName(Feature.EPT_1G, "ept-1g", "EPT with 1 GiB pages", false),
  new FeatureName(Feature.EPT_AD, "ept-ad", "EPT accessed and dirty bits", false),
  new FeatureName(Feature.PML, "pml", "page-modification logging", false),
  new FeatureName(Feature.APIC_REGISTERS, "apic-registers", "APIC-register virtualization", false),
  new FeatureName(Feature.VIRTUAL_INTERRUPTS, "virtual-interrupts", "virtual-interrupt delivery", false),
  new FeatureName(Feature.POSTED_INTERRUPTS, "posted-interrupts", "posted interrupts", false),
  new FeatureName(Feature.TSC_SCALING, "tsc-scaling", "TSC scaling", false),
  new FeatureName(Feature.X2APIC, "x2apic", "x2APIC", false),
  new FeatureName(Feature.TSC_DEADLINE, "tsc-deadline", "TSC-deadline timer", false),
  new FeatureName(
    Feature.INVARIANT_TSC,
    "invariant-tsc",
    "invariant TSC: time does not change with CPU frequency",
    false,
  ),
  new FeatureName(Feature.XSAVE, "xsave", "XSAVE: AVX for VMs", false),
  new FeatureName(Feature.IBPB, "ibpb", "IBPB: branch predictions are not shared between VMs", false),
  new FeatureName(Feature.MD_CLEAR, "md-clear", "MD_CLEAR: CPU buffers are cleared between VMs", false),
];

function countRunning(): u32 {
  const all = vmsAll();
  let running: u32 = 0;
  for (let i = 0; i < all.length; i++)
    if (all[i].state == STATE_RUNNING || all[i].state == STATE_PAUSED) running++;
  return running;
}

/** The result of `status`. */
export function statusResult(): Value {
  const host = hostNow();
  const pages = Value.map()
    .putUint(FIELD_TOTAL, host.total_pages * PAGE_SIZE)
    .putUint(FIELD_FREE, host.free_pages * PAGE_SIZE)
    .putUint(FIELD_KERNEL, host.kernel_pages * PAGE_SIZE)
    .putUint(FIELD_RESERVED, host.reserved_pages * PAGE_SIZE);
  const features = Value.list();
  for (let i = 0; i < FEATURES.length; i++)
    if ((info().features & FEATURES[i].bit) != 0) features.add(Value.string(FEATURES[i].name));
  return Value.map()
    .putText(FIELD_HOST, hostNameGet())
    .putText(FIELD_VERSION, VERSION)
    .putUint(FIELD_UPTIME_MS, uptimeMs())
    .putText(FIELD_CPU, cpuName())
    .putText(FIELD_RIG, rigName())
    .putUint(FIELD_CPUS, info().cpus)
    .put(FIELD_MEMORY, pages)
    .put(FIELD_VMS, Value.map().putUint(FIELD_TOTAL, vmsAll().length).putUint(FIELD_RUNNING, countRunning()))
    .putUint(FIELD_CONTROL_RESTARTS, info().restarts)
    .putUint(FIELD_BAD_FRAMES, lineBadFrames())
    .putUint(FIELD_OVERRUNS, uartOverruns())
    .put(FIELD_FEATURES, features);
}

function kernelPagesOf(slot: u32): u64 {
  return domainInfo(slot, domainPage) >= 0 ? changetype<DomainInfo>(domainPage).kernel_pages : 0;
}

/** What the kernel counts, added up over a VM's vCPUs; zeros where it is not up. */
function countVcpus(vm: Vm): VcpuInfo {
  const total = changetype<VcpuInfo>(totalPage);
  const vcpu = changetype<VcpuInfo>(vcpuPage);
  memory.fill(totalPage, 0, VcpuInfoAt.SIZE);
  for (let n: u32 = 0; vm.alive && n < vm.spec.vcpus; n++) {
    if (vcpuInfo(vmSlot(vm.index, VmSlot.VCPU) + n, vcpuPage) < 0) continue;
    total.exits += vcpu.exits;
    total.interrupts += vcpu.interrupts;
    total.forwarded += vcpu.forwarded;
    total.run_time += vcpu.run_time;
    for (let reason = 0; reason < MAX_EXIT_REASONS; reason++) total.counters[reason] += vcpu.counters[reason];
  }
  return total;
}

/** The result of `show`: its row, and what the kernel counts while it is up. */
export function showResult(vm: Vm): Value {
  const out = vm
    .toRow()
    .put(FIELD_SPEC, vm.spec.toValue())
    .putUint(FIELD_RESTARTS, vm.restartCount)
    .putText(FIELD_LAST_EXIT, vm.lastExit);
  const total = countVcpus(vm);
  const counters = Value.map();
  for (let reason = 0; reason < MAX_EXIT_REASONS; reason++)
    if (total.counters[reason] != 0) counters.putUint(exitReasonName(reason), total.counters[reason]);
  const model = vm.alive ? kernelPagesOf(vmSlot(vm.index, VmSlot.MODEL)) : 0;
  const domain = vm.alive ? kernelPagesOf(vmSlot(vm.index, VmSlot.DOMAIN)) : 0;
  const mapped = domain > 0 ? changetype<DomainInfo>(domainPage).mapped_pages : 0;
  const overhead = Value.map()
    .putUint(FIELD_KERNEL_BYTES, (model + domain) * PAGE_SIZE)
    .putUint(FIELD_MODEL_BYTES, vm.alive ? modelBytes() : 0);
  return out
    .putUint(FIELD_EXITS, total.exits)
    .putUint(FIELD_INTERRUPTS, total.interrupts)
    .putUint(FIELD_FORWARDED, total.forwarded)
    .put(FIELD_COUNTERS, counters)
    .putUint(FIELD_RUNTIME_MS, ticksToMs(total.run_time))
    .put(FIELD_OVERHEAD, overhead)
    .putUint(FIELD_MAPPED, mapped * PAGE_SIZE);
}

function check(list: Value, name: string, ok: bool, text: string): void {
  list.add(Value.map().putText(FIELD_NAME, name).putBool(FIELD_OK, ok).putText(FIELD_TEXT, text));
}

/** The result of `doctor`. */
export function doctorResult(): Value {
  const list = Value.list();
  for (let i = 0; i < FEATURES.length; i++) {
    const feature = FEATURES[i];
    const has = (info().features & feature.bit) != 0;
    check(
      list,
      feature.name,
      has || !feature.wanted,
      feature.text + (has ? "" : ": this CPU does not have it, or the kernel does without it"),
    );
  }
  const problems = bootProblems();
  check(
    list,
    "spec",
    problems.length == 0,
    problems.length == 0 ? "the host specification was read" : problems[0],
  );
  check(list, "device-model", findModule("device-model") != null, "the device model's image is there");
  const restarts = info().restarts;
  check(list, "control", restarts == 0, "the control domain was restarted " + counted(restarts, "time"));
  const host = hostNow();
  check(list, "memory", host.free_pages > 4096, mib(host.free_pages * PAGE_SIZE) + " are free");
  check(
    list,
    "line",
    lineBadFrames() == 0,
    "damaged frames: " + lineBadFrames().toString() + ", overruns: " + uartOverruns().toString(),
  );
  return Value.map().put(FIELD_CHECKS, list);
}
