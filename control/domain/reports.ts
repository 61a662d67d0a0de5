// The longer result documents: the host's status, everything about a VM, and the doctor's checks.

import { MAX_EXIT_REASONS, PAGE_SIZE, VcpuInfoAt } from "../gen/abi";
import { CapInfo, DomainInfo, VcpuInfo } from "../gen/layout";
import { capInfo, domainInfo, vcpuInfo } from "../lib/binding";
import {
  FIELD_ACTUAL,
  FIELD_ATTACHED,
  FIELD_BAD_FRAMES,
  FIELD_BALLOON,
  FIELD_READY,
  FIELD_THROTTLES,
  FIELD_MAJOR_FAULTS,
  FIELD_CACHES,
  FIELD_AVAILABLE,
  FIELD_CHECKS,
  FIELD_CLEAN,
  FIELD_CONTROL,
  FIELD_CONTROL_RESTARTS,
  FIELD_COUNTERS,
  FIELD_CPU,
  FIELD_CPUS,
  FIELD_EXITS,
  FIELD_FEATURES,
  FIELD_FLOOR,
  FIELD_FORWARDED,
  FIELD_FREE,
  FIELD_HELD,
  FIELD_HOST,
  FIELD_HYPERCALLS,
  FIELD_INTERRUPTS,
  FIELD_IPIS,
  FIELD_LOG_DROPPED,
  FIELD_MODEL,
  FIELD_OVER_MS,
  FIELD_RATES,
  FIELD_THROTTLED,
  FIELD_KERNEL,
  FIELD_KERNEL_BYTES,
  FIELD_LAST_EXIT,
  FIELD_MAPPED,
  FIELD_MEMORY,
  FIELD_MODEL_BYTES,
  FIELD_NAME,
  FIELD_OK,
  FIELD_OPEN,
  FIELD_OVERHEAD,
  FIELD_OVERRUNS,
  FIELD_PLACED,
  FIELD_NODE,
  FIELD_NODES,
  FIELD_PORTS,
  FIELD_PROMISED,
  FIELD_RESERVED,
  FIELD_RESTARTS,
  FIELD_RIG,
  FIELD_RUNNING,
  FIELD_RUNTIME_MS,
  FIELD_SPEC,
  FIELD_TENANTS,
  FIELD_USED,
  FIELD_VCPUS,
  FIELD_TARGET,
  FIELD_TEXT,
  FIELD_TOTAL,
  FIELD_UPTIME_MS,
  FIELD_VERSION,
  FIELD_VMS,
  FIELD_DENIALS,
  FIELD_DEVICES,
  FIELD_DEVICE,
  FIELD_REQUESTS,
  FIELD_NOTIFIES,
  FIELD_BYTES_OUT,
  FIELD_BYTES_IN,
  FIELD_NETWORK,
  FIELD_MAC,
  FIELD_LINK,
  LINK_UP,
  LINK_DOWN,
  FIELD_FRAMES_OUT,
  FIELD_FRAMES_IN,
  FIELD_DROPS_OUT,
  FIELD_DROPS_IN,
  STATE_PAUSED,
  STATE_RUNNING,
} from "../protocol/schema";
import { Count, COUNT_LINK_UP, LINK_COUNTERS_SIZE, LINK_COUNTERS_STEP } from "../lib/link";
import { Acpi, acpiRead } from "./acpi";
import { exitReasonName } from "./exit-reasons";
import { features } from "./features";
import { nodesOfVm } from "./nodes";
import { cpuName, findModule, hostNow, info, rigName, ticksToMs, uptimeMs } from "./host";
import { linesBadFrames, linesOverruns } from "./line";
import { damages } from "./manifest";
import { cardMac } from "./networks";
import { vmSlot, VmSlot } from "./slots";
import { snapshotCosts } from "./snapshots";
import { bootProblems } from "./boot";
import { openFlaws } from "./mitigations";
import { balloonRead } from "./balloons";
import { denialsOf, denialsTotal } from "./rules";
import { Tenant, tenantsAll } from "./tenants";
import { counted, mib, quoted } from "./text";
import { controlFailures, upgradeStatus } from "./upgrade";
import { Value } from "./value";
import { VERSION } from "./version";
import { Vm } from "./vm";
import { modelBytes } from "./vm-builder";
import { hostNameGet, vmsAll } from "./vms";

/** The counter of exits that are hypercalls: VMCALL. */
const HYPERCALL_EXIT: u32 = 18;
/** Elsewhere the CPU is an emulator's, and has what that says. */
const BARE_METAL: string = "bare metal";

const capPage: usize = memory.data(96, 16);
const domainPage: usize = memory.data(128, 16);
const vcpuPage: usize = memory.data(704, 16);
const countPage: usize = memory.data(128, 16);
const totalPage: usize = memory.data(704, 16);

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
    .putUint(FIELD_CLEAN, host.clean_pages * PAGE_SIZE)
    .putUint(FIELD_KERNEL, host.kernel_pages * PAGE_SIZE)
    .putUint(FIELD_RESERVED, host.reserved_pages * PAGE_SIZE)
    .putUint(FIELD_PROMISED, host.promised_pages * PAGE_SIZE);
  const used = Value.list();
  const known = features();
  for (let i = 0; i < known.length; i++) if (known[i].present) used.add(Value.string(known[i].name));
  return Value.map()
    .putText(FIELD_HOST, hostNameGet())
    .putText(FIELD_VERSION, VERSION)
    .putUint(FIELD_UPTIME_MS, uptimeMs())
    .putText(FIELD_CPU, cpuName())
    .putText(FIELD_RIG, rigName())
    .putUint(FIELD_CPUS, info().cpus)
    .put(FIELD_MEMORY, pages)
    .put(FIELD_VMS, Value.map().putUint(FIELD_TOTAL, vmsAll().length).putUint(FIELD_RUNNING, countRunning()))
    .put(FIELD_CONTROL, upgradeStatus())
    .putUint(FIELD_CONTROL_RESTARTS, info().restarts)
    .putUint(FIELD_BAD_FRAMES, linesBadFrames())
    .putUint(FIELD_OVERRUNS, linesOverruns())
    .putUint(FIELD_DENIALS, denialsTotal())
    .put(FIELD_FEATURES, used);
}

function kernelPagesOf(slot: u32): u64 {
  return domainInfo(slot, domainPage) >= 0 ? changetype<DomainInfo>(domainPage).kernel_pages : 0;
}

/** Where the vCPUs are that were counted last. */
let countedCpus: u32[] = [];

/** What the kernel counts, added up over a VM's vCPUs; zeros where it is not up. */
export function countVcpus(vm: Vm): VcpuInfo {
  const total = changetype<VcpuInfo>(totalPage);
  const vcpu = changetype<VcpuInfo>(vcpuPage);
  memory.fill(totalPage, 0, VcpuInfoAt.SIZE);
  countedCpus = [];
  for (let n: u32 = 0; vm.alive && n < vm.spec.vcpus; n++) {
    if (vcpuInfo(vmSlot(vm.index, VmSlot.VCPU) + n, vcpuPage) < 0) continue;
    total.exits += vcpu.exits;
    total.interrupts += vcpu.interrupts;
    total.forwarded += vcpu.forwarded;
    total.run_time += vcpu.run_time;
    total.ready_time += vcpu.ready_time;
    total.ipis += vcpu.ipis;
    total.throttles += vcpu.throttles;
    countedCpus.push(vcpu.cpu);
    for (let reason = 0; reason < MAX_EXIT_REASONS; reason++) total.counters[reason] += vcpu.counters[reason];
  }
  return total;
}

function kindName(kind: u32): string {
  switch (kind) {
    case 1:
      return "net";
    case 2:
      return "block";
    case 3:
      return "console";
    case 4:
      return "entropy";
    case 5:
      return "balloon";
    case 8:
      return "cd";
    default:
      return "device " + kind.toString();
  }
}

/** What the device model has counted of each device. */
function deviceList(vm: Vm): Value {
  const list = Value.list();
  const link = vm.link;
  let card = 0;
  for (let i: u32 = 0; link != null && vm.alive && i < LINK_COUNTERS_SIZE / LINK_COUNTERS_STEP; i++) {
    link.readCounters(i, countPage);
    const kind = <u32>counted64(Count.KIND);
    if (kind == 0) break;
    const device = Value.map().putText(FIELD_DEVICE, kindName(kind));
    if (kind == 1 && card < vm.cards.length) addCard(device, vm, card++);
    list.add(
      device
        .putUint(FIELD_REQUESTS, counted64(Count.REQUESTS))
        .putUint(FIELD_NOTIFIES, counted64(Count.NOTIFIES))
        .putUint(FIELD_INTERRUPTS, counted64(Count.INTERRUPTS))
        .putUint(FIELD_BYTES_OUT, counted64(kind == 1 ? Count.FRAME_BYTES_OUT : Count.BYTES_OUT))
        .putUint(FIELD_BYTES_IN, counted64(kind == 1 ? Count.FRAME_BYTES_IN : Count.BYTES_IN)),
    );
  }
  return list;
}

/** The named ports of a VM. */
function portList(vm: Vm): Value {
  const list = Value.list();
  for (let i = 0; i < vm.spec.ports.length; i++) {
    const port = vm.alive && i < vm.ports.length ? vm.ports[i] : null;
    list.add(
      Value.map()
        .putText(FIELD_NAME, vm.spec.ports[i])
        .putBool(FIELD_OPEN, port != null && port.isOpen)
        .putBool(FIELD_ATTACHED, port != null && port.isAttached),
    );
  }
  return list;
}

/** What a VM's balloon driver says; it and the device model can say what they like. */
function balloonOf(vm: Vm): Value {
  const known = balloonRead(vm, countPage);
  const given = known ? min(counted64(Count.BALLOON_PAGES), vm.spec.memory / PAGE_SIZE) : 0;
  const balloon = Value.map()
    .putUint(FIELD_TARGET, vm.leaves)
    .putUint(FIELD_ACTUAL, vm.spec.memory - given * PAGE_SIZE);
  if (vm.spec.floor > 0)
    balloon.putUint(FIELD_FLOOR, vm.spec.floor).putUint(FIELD_HELD, vm.target - vm.leaves);
  if (!known || counted64(Count.STAT_TOTAL) == 0) return balloon;
  return balloon
    .putUint(FIELD_TOTAL, counted64(Count.STAT_TOTAL))
    .putUint(FIELD_FREE, counted64(Count.STAT_FREE))
    .putUint(FIELD_AVAILABLE, counted64(Count.STAT_AVAILABLE))
    .putUint(FIELD_CACHES, counted64(Count.STAT_CACHES))
    .putUint(FIELD_MAJOR_FAULTS, counted64(Count.STAT_MAJOR_FAULTS));
}

function counted64(what: Count): u64 {
  return load<u64>(countPage + <usize>what * 8);
}

function addCard(device: Value, vm: Vm, index: i32): void {
  device
    .putText(FIELD_NETWORK, vm.spec.cards[index].network)
    .putText(FIELD_MAC, cardMac(vm, index))
    .putText(FIELD_LINK, counted64(Count.KIND) & COUNT_LINK_UP ? LINK_UP : LINK_DOWN)
    .putUint(FIELD_FRAMES_OUT, counted64(Count.FRAMES_OUT))
    .putUint(FIELD_FRAMES_IN, counted64(Count.FRAMES_IN))
    .putUint(FIELD_DROPS_OUT, counted64(Count.DROPS_OUT))
    .putUint(FIELD_DROPS_IN, counted64(Count.DROPS_IN));
}

/** A tenant's limits, and what counts towards them. */
export function tenantRow(tenant: Tenant): Value {
  const vms = vmsAll();
  let memory: u64 = snapshotCosts(tenant.name);
  let count: u32 = 0;
  let vcpus: u32 = 0;
  for (let i = 0; i < vms.length; i++) {
    if (vms[i].spec.tenant != tenant.name) continue;
    memory += vms[i].cost;
    vcpus += vms[i].spec.vcpus;
    count++;
  }
  const used = Value.map()
    .putUint(FIELD_MEMORY, memory)
    .putUint(FIELD_VMS, count)
    .putUint(FIELD_VCPUS, vcpus);
  return tenant.toValue().put(FIELD_USED, used).put(FIELD_DENIALS, denialsOf(tenant.name));
}

/** The result of `tenants`. */
export function tenantsResult(): Value {
  const list = Value.list();
  const tenants = tenantsAll();
  for (let i = 0; i < tenants.length; i++) list.add(tenantRow(tenants[i]));
  return Value.map().put(FIELD_TENANTS, list);
}

/** Milliseconds over which rates are told, at least. */
const RATE_MS: u64 = 1000;

/** Exits, IPIs and hypercalls of its device model a second, since somebody looked last. */
function ratesOf(vm: Vm, total: VcpuInfo, calls: u64): Value {
  const now = uptimeMs();
  const over = now - max(vm.sampledAt, vm.since);
  const known = vm.rates;
  if (known != null && over < RATE_MS && vm.sampledAt >= vm.since) return known;
  const fresh = vm.sampledAt < vm.since || total.exits < vm.sampledExits; /* it was started again */
  const rates = Value.map()
    .putUint(FIELD_EXITS, perSecond(total.exits - (fresh ? 0 : vm.sampledExits), over))
    .putUint(FIELD_IPIS, perSecond(total.ipis - (fresh ? 0 : vm.sampledIpis), over))
    .putUint(
      FIELD_HYPERCALLS,
      perSecond(calls - (fresh || calls < vm.sampledCalls ? 0 : vm.sampledCalls), over),
    )
    .putUint(FIELD_OVER_MS, over);
  vm.sampledAt = now;
  vm.sampledExits = total.exits;
  vm.sampledIpis = total.ipis;
  vm.sampledCalls = calls;
  vm.rates = rates;
  return rates;
}

function perSecond(count: u64, ms: u64): u64 {
  return (count * 1000) / max<u64>(ms, 1);
}

/** What its device model has asked of the kernel, and what of it was too much. */
function brakesOf(vm: Vm): Value {
  const out = Value.map();
  const model = vmSlot(vm.index, VmSlot.MODEL);
  const about = changetype<DomainInfo>(domainPage);
  if (!vm.alive || domainInfo(model, domainPage) < 0) return out;
  if (vcpuInfo(vmSlot(vm.index, VmSlot.MODEL_VCPU), vcpuPage) >= 0)
    out.putUint(FIELD_HYPERCALLS, changetype<VcpuInfo>(vcpuPage).counters[HYPERCALL_EXIT]);
  return out.putUint(FIELD_THROTTLED, about.throttled).putUint(FIELD_LOG_DROPPED, about.log_dropped);
}

/** The result of `show`: its row, and what the kernel counts while it is up. */
export function showResult(vm: Vm): Value {
  const out = vm
    .toRow()
    .put(FIELD_SPEC, vm.spec.toValue())
    .putUint(FIELD_RESTARTS, vm.restartCount)
    .putText(FIELD_LAST_EXIT, vm.lastExit);
  const total = countVcpus(vm);
  const asked = brakesOf(vm);
  const counters = Value.map();
  for (let reason = 0; reason < MAX_EXIT_REASONS; reason++)
    if (total.counters[reason] != 0) counters.putUint(exitReasonName(reason), total.counters[reason]);
  const model = vm.alive ? kernelPagesOf(vmSlot(vm.index, VmSlot.MODEL)) : 0;
  const domain = vm.alive ? kernelPagesOf(vmSlot(vm.index, VmSlot.DOMAIN)) : 0;
  const mapped =
    vm.alive && capInfo(vmSlot(vm.index, VmSlot.MEMORY), capPage) >= 0
      ? changetype<CapInfo>(capPage).present
      : 0;
  const overhead = Value.map()
    .putUint(FIELD_KERNEL_BYTES, (model + domain) * PAGE_SIZE)
    .putUint(FIELD_MODEL_BYTES, vm.alive ? modelBytes(vm) : 0);
  const placed = Value.list();
  for (let i = 0; i < vm.placed.length; i++) placed.add(Value.uint(vm.placed[i]));
  if (vm.placed.length > 0) out.put(FIELD_PLACED, placed);
  const shares = nodesOfVm(vm);
  const nodes = Value.list();
  for (let i = 0; i < shares.length; i++)
    nodes.add(Value.map().putUint(FIELD_NODE, shares[i].id).putUint(FIELD_MEMORY, shares[i].bytes));
  if (shares.length > 0) out.put(FIELD_NODES, nodes);
  const cpus = Value.list();
  for (let n = 0; n < countedCpus.length; n++) cpus.add(Value.uint(countedCpus[n]));
  return out
    .put(FIELD_CPUS, cpus)
    .putUint(FIELD_THROTTLES, total.throttles)
    .putUint(FIELD_READY, ticksToMs(total.ready_time))
    .putUint(FIELD_EXITS, total.exits)
    .putUint(FIELD_INTERRUPTS, total.interrupts)
    .putUint(FIELD_FORWARDED, total.forwarded)
    .put(FIELD_RATES, ratesOf(vm, total, asked.getUint(FIELD_HYPERCALLS)))
    .put(FIELD_MODEL, asked)
    .put(FIELD_COUNTERS, counters)
    .put(FIELD_DEVICES, deviceList(vm))
    .putUint(FIELD_RUNTIME_MS, ticksToMs(total.run_time))
    .put(FIELD_OVERHEAD, overhead)
    .putUint(FIELD_MAPPED, mapped * PAGE_SIZE)
    .put(FIELD_BALLOON, balloonOf(vm))
    .put(FIELD_PORTS, portList(vm));
}

function check(list: Value, name: string, ok: bool, text: string): void {
  list.add(Value.map().putText(FIELD_NAME, name).putBool(FIELD_OK, ok).putText(FIELD_TEXT, text));
}

/** What the firmware says of the machine, beside what the kernel makes of it. */
function checkMachine(list: Value, acpi: Acpi): void {
  const found = max<u32>(acpi.cpus.length, 1);
  check(list, "cpus", info().cpus >= found, info().cpus.toString() + " of " + counted(found, "CPU") + " run");
  const bad = acpi.problems;
  check(
    list,
    "acpi",
    bad.length == 0,
    bad.length > 0
      ? bad[0]
      : acpi.revision == 0
        ? "no ACPI: a plain PC is assumed"
        : counted(acpi.tables.length, "ACPI table") + " of " + quoted(acpi.oem),
  );
  const units = acpi.iommu + " with " + counted(acpi.iommuUnits, "unit");
  check(
    list,
    "iommu",
    true,
    acpi.iommu == ""
      ? "no IOMMU: a device could reach all memory, so none should be given away"
      : units + ", not used yet",
  );
  check(list, "numa", true, counted(max(acpi.nodes.length, 1), "NUMA node"));
}

/** The result of `doctor`. */
export function doctorResult(): Value {
  const list = Value.list();
  const known = features();
  for (let i = 0; i < known.length; i++) {
    const feature = known[i];
    const has = feature.present;
    check(
      list,
      feature.name,
      has || !feature.wanted,
      has ? feature.text : "no " + feature.text.split(":")[0] + ": " + feature.cost,
    );
  }
  checkMachine(list, acpiRead());
  const open = openFlaws();
  check(
    list,
    "mitigations",
    open.length == 0 || rigName() != BARE_METAL,
    open.length == 0
      ? "what this CPU's flaws need is done"
      : "flaws of this CPU stay open: " + open.join(", "),
  );
  const problems = bootProblems();
  check(
    list,
    "spec",
    problems.length == 0,
    problems.length == 0 ? "the host specification was read" : problems[0],
  );
  check(list, "device-model", findModule("device-model") != null, "the device model's image is there");
  const bad = damages();
  check(list, "medium", bad.length == 0, bad.length == 0 ? "the boot modules are whole" : bad.join("; "));
  const failures = controlFailures();
  check(list, "control", failures == 0, "the control domain has failed " + counted(failures, "time"));
  const host = hostNow();
  check(list, "memory", host.free_pages > 4096, mib(host.free_pages * PAGE_SIZE) + " are free");
  check(
    list,
    "line",
    linesBadFrames() == 0,
    "damaged frames: " + linesBadFrames().toString() + ", overruns: " + linesOverruns().toString(),
  );
  return Value.map().put(FIELD_CHECKS, list);
}
