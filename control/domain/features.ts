// The CPU features that matter to a host, in words, and what it costs where one is missing or left off.

import { Feature } from "../gen/abi";
import { hostCpuid } from "../lib/binding";
import { info } from "./host";
import { partitions } from "./partitions";
import { fieldText } from "./text";

const regs: usize = memory.data(16, 16);

export class FeatureName {
  constructor(
    public bit: u32,
    public name: string,
    public text: string,
    public cost: string,
    /** A host without it is not healthy. */
    public wanted: bool,
    /** Only CPUs with VT-x have it: elsewhere nothing is missing. */
    public vtxOnly: bool,
  ) {}

  get present(): bool {
    if (this.name == CACHE_ALLOCATION) return partitions().ways > 0;
    if (this.name == BANDWIDTH_ALLOCATION) return partitions().delay > 0;
    return (info().features & this.bit) != 0;
  }
}

const CACHE_ALLOCATION: string = "cache-allocation";
const BANDWIDTH_ALLOCATION: string = "bandwidth-allocation";

const ALL: FeatureName[] = [
  new FeatureName(
    Feature.VPID,
    "vpid",
    "tagged TLB (VPID, ASID): a VM switch keeps the TLB",
    "each switch between VMs empties the TLB",
    true,
    false,
  ),
  new FeatureName(
    Feature.UNRESTRICTED,
    "unrestricted-guest",
    "unrestricted guest: VMs in real mode",
    "VMs cannot start in real mode",
    true,
    true,
  ),
  new FeatureName(
    Feature.PREEMPTION_TIMER,
    "preemption-timer",
    "VMX preemption timer: exact time slices",
    "time slices end by the local APIC's timer",
    true,
    true,
  ),
  new FeatureName(
    Feature.EPT_1G,
    "ept-1g",
    "second-level pages of 1 GiB",
    "VMs of many GiB miss the TLB more often",
    false,
    false,
  ),
  new FeatureName(
    Feature.APIC_REGISTERS,
    "apic-registers",
    "APIC-register virtualization",
    "each access to the local APIC is an exit",
    false,
    true,
  ),
  new FeatureName(
    Feature.VIRTUAL_INTERRUPTS,
    "virtual-interrupts",
    "virtual-interrupt delivery",
    "the end of an interrupt is an exit",
    false,
    true,
  ),
  new FeatureName(
    Feature.POSTED_INTERRUPTS,
    "posted-interrupts",
    "posted interrupts",
    "an interrupt for a running VM is an exit",
    false,
    true,
  ),
  new FeatureName(
    Feature.TSC_SCALING,
    "tsc-scaling",
    "TSC scaling, not used yet",
    "nothing yet: VMs have the host's TSC rate",
    false,
    false,
  ),
  new FeatureName(
    Feature.X2APIC,
    "x2apic",
    "x2APIC",
    "calls between CPUs are slower; at most 255 CPUs",
    false,
    false,
  ),
  new FeatureName(
    Feature.TSC_DEADLINE,
    "tsc-deadline",
    "TSC-deadline timer",
    "timers fire in ticks of the local APIC's clock",
    false,
    false,
  ),
  new FeatureName(
    Feature.INVARIANT_TSC,
    "invariant-tsc",
    "invariant TSC: time does not change with CPU frequency",
    "VMs' clocks may drift with its frequency",
    false,
    false,
  ),
  new FeatureName(Feature.XSAVE, "xsave", "XSAVE: AVX for VMs", "VMs have no AVX", false, false),
  new FeatureName(
    Feature.IBPB,
    "ibpb",
    "IBPB: branch predictions are not shared between VMs",
    "VMs share branch predictions, a flaw of most CPUs",
    false,
    false,
  ),
  new FeatureName(
    Feature.MD_CLEAR,
    "md-clear",
    "MD_CLEAR: CPU buffers are cleared between VMs",
    "CPU buffers may leak, a flaw of older CPUs",
    false,
    true,
  ),
  new FeatureName(
    0,
    CACHE_ALLOCATION,
    "cache allocation (L3 CAT): tenants have parts of the cache",
    "tenants share the last-level cache",
    false,
    false,
  ),
  new FeatureName(
    0,
    BANDWIDTH_ALLOCATION,
    "memory-bandwidth allocation (MBA): tenants have parts of it",
    "tenants share the memory bandwidth",
    false,
    true,
  ),
];

/** Who made the CPU, from CPUID leaf 0: EBX, EDX, ECX. */
export function cpuVendor(): string {
  if (hostCpuid(0, 0, regs) < 0) return "";
  const ecx = load<u32>(regs + 8);
  store<u32>(regs + 8, load<u32>(regs + 12));
  store<u32>(regs + 12, ecx);
  return fieldText(regs + 4, 12);
}

/** Family, model and stepping from leaf 1: Intel SDM, "CPUID", "Version Information". */
export class CpuModel {
  family: u32 = 0;
  model: u32 = 0;
  stepping: u32 = 0;

  constructor() {
    const eax: u32 = hostCpuid(1, 0, regs) < 0 ? 0 : load<u32>(regs);
    const base = (eax >> 8) & 15;
    this.family = base + (base == 15 ? (eax >> 20) & 0xff : 0);
    this.model = ((eax >> 4) & 15) | (base == 6 || base == 15 ? ((eax >> 16) & 15) << 4 : 0);
    this.stepping = eax & 15;
  }
}

/** The features that this kind of CPU can have. */
export function features(): FeatureName[] {
  const vendor = cpuVendor();
  if (vendor != "AuthenticAMD" && vendor != "HygonGenuine") return ALL;
  const out: FeatureName[] = [];
  for (let i = 0; i < ALL.length; i++) if (!ALL[i].vtxOnly) out.push(ALL[i]);
  return out;
}
