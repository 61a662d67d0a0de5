// The shapes of the control domain's results, as ../protocol/README.md lists them.

/** One row of `ls`. */
export interface VmRow {
  name: string;
  state: string;
  reason: string;
  memory: number;
  vcpus: number;
  sinceMs: number;
  /** Missing: the default one. */
  tenant?: string;
  tags?: string[];
  protected?: boolean;
}

/** A tenant and its limits. */
export interface TenantSpec {
  name: string;
  memory?: number;
  vms?: number;
  vcpus?: number;
  /** The CPUs on which its VMs run; missing: all. */
  cpus?: string;
  /** What its VMs may cause together in a second. */
  exits?: number;
  ipis?: number;
  /** And what their device models may ask of the kernel, and write to its log, in bytes. */
  hypercalls?: number;
  log?: number;
  /** Percent of the last-level cache for itself, and of the memory bandwidth, at most. */
  cache?: number;
  bandwidth?: number;
}

/** What tenants may share. */
export interface RuleSpec {
  tenants: string[];
  share: string[];
}

/** How much is done between guests on a CPU: "needed", "all" or "off". */
export interface MitigationsSpec {
  between?: string;
  within?: string;
  exits?: string;
}

/** The CPU's flaws, and what is done where. */
export interface MitigationsResult {
  flaws: { name: string; ok: boolean; text: string }[];
  mitigations: { kind: string; level: string; does: string; cost: string }[];
}

/** A way from one domain to another. */
export interface FlowRow {
  kind: string;
  one: string;
  other: string;
  /** "->", "<-", "<->", or "-": nothing passes. */
  direction: string;
  text: string;
  allowed: boolean;
  /** Why it is allowed or not. */
  reason: string;
}

/** What can flow; `forbidden` counts what no rule allows, `pairs` the pairs of tenants that were looked at. */
export interface PolicyResult {
  one?: string;
  other?: string;
  pairs?: number;
  forbidden: number;
  flows: FlowRow[];
}

/** A tenant, and what counts towards its limits. */
export interface TenantRow extends TenantSpec {
  used: { memory: number; vms: number; vcpus: number };
  /** How often the policy has refused it something, by kind. */
  denials?: Record<string, number>;
}

/** Counters of a VM; times in microseconds. `starts`: where they begin anew. */
export interface TopVm {
  name: string;
  state: string;
  /** Missing: the default one. */
  tenant?: string;
  vcpus: number;
  memory: number;
  starts: number;
  run: number;
  ready: number;
  model: number;
  exits: number;
  counters: Record<string, number>;
  /** When they were read. */
  at: number;
}

export interface TopSample {
  host: string;
  time: number;
  /** Of all CPUs. */
  idle: number;
  /** Of the control domain, and of vCPUs that are gone. */
  control: number;
  past: number;
  /** Capabilities that the control domain holds. */
  caps: number;
  cpus: number;
  total: number;
  free: number;
  vms: TopVm[];
}

/** A step from what a host is to a specification. */
export interface Step {
  action: string;
  object: string;
  reason: string;
  /** Whether a VM that runs is ended. */
  ends: boolean;
}

/** A piece of the audit log. */
export interface AuditPage {
  from: number;
  /** The hash of the record before `from`. */
  before: Uint8Array;
  /** The CBOR of each record, which is what is hashed. */
  records: Uint8Array[];
  head: { seq: number; hash: Uint8Array };
  next?: number;
}

export interface Refusal {
  code: number;
  message: string;
  object: string;
  next: string;
}

/** What a specification would change; `draft` is what `apply` wants to know. */
export interface PlanResult {
  steps: Step[];
  refusals: Refusal[];
  /** Bytes that are free now. */
  free: number;
  draft: { session: number; size: number; digest: number };
}

/** What one VM should be. */
export interface VmSpec {
  name: string;
  tenant?: string;
  tags?: string[];
  protected?: boolean;
  memory: number;
  /** What its balloon leaves it of that from the start; `floor`: the host may take more when it lacks memory. */
  balloon?: number | { size?: number; floor?: number };
  vcpus?: number;
  kernel?: string;
  initrd?: string;
  firmware?: string;
  cmdline?: string;
  boot?: string;
  modules?: { image: string; cmdline?: string }[];
  debugExit?: boolean;
  console?: string;
  disks?: { image: string; readOnly?: boolean; cdrom?: boolean }[];
  networks?: { network: string; mac?: string }[];
  /** Names of ports beside the console. */
  ports?: string[];
  rings?: string;
  /** The NUMA node of its memory. */
  node?: number;
  /** How each vCPU gets its time: percents of a CPU, milliseconds, a set of CPUs. */
  scheduling?: string;
  weight?: number;
  cap?: number;
  reserve?: number;
  period?: number;
  latency?: number;
  cpus?: string;
  start?: boolean;
  restart?: { policy: string; max?: number; window?: number };
  /** How many copies policy hooks may make of it. */
  scale?: { min?: number; max?: number };
}

/** What a device of a VM has done; bytes of a network card are those of frames. */
export interface DeviceRow {
  device: string;
  requests: number;
  notifies: number;
  interrupts: number;
  bytesOut: number;
  bytesIn: number;
  /** Of a network card: frames that the VM has sent and received, and that were dropped. */
  network?: string;
  mac?: string;
  link?: string;
  framesOut?: number;
  framesIn?: number;
  dropsOut?: number;
  dropsIn?: number;
}

/** The rest is what the VM has said of its memory when it was last asked: each `show` asks for the next. */
export interface BalloonRow {
  /** Down to this the host may take, and what it has taken of the target. */
  floor?: number;
  held?: number;
  target: number;
  actual: number;
  total?: number;
  free?: number;
  available?: number;
  caches?: number;
  majorFaults?: number;
}

/** A named port of a VM: whether the VM has opened it, and a program outside. */
export interface PortRow {
  name: string;
  open: boolean;
  attached: boolean;
}

/** Everything known about one VM. */
export interface VmDetails extends VmRow {
  /** Where its vCPUs are, how long they waited for them, and how often their budget was used up. */
  cpus?: number[];
  ready?: number;
  throttles?: number;
  spec: VmSpec;
  restarts: number;
  lastExit: string | number;
  exits: number;
  interrupts: number;
  forwarded: number;
  counters: Record<string, number>;
  devices?: DeviceRow[];
  runtimeMs: number;
  /** A second, over the time since somebody looked last. */
  rates?: { exits: number; ipis: number; hypercalls: number; overMs: number };
  /** What its device model has asked of the kernel; calls that had to wait and log lines left out: they were too many. */
  model?: { hypercalls?: number; throttled?: number; logDropped?: number };
  overhead: { kernelBytes: number; modelBytes: number };
  /** Bytes of its memory that have frames of the host. */
  mapped: number;
  /** Where there are several, the nodes on which its memory is. */
  nodes?: { node: number; memory: number }[];
  /** What a balloon should leave it, and leaves it. */
  balloon?: BalloonRow;
  ports?: PortRow[];
}

export interface HostStatus {
  host: string;
  version: string;
  uptimeMs: number;
  cpu: string;
  rig: string;
  cpus: number;
  /** clean: of `free`, what is zeroed in advance. */
  memory: { total: number; free: number; clean: number; kernel: number; reserved: number; promised: number };
  vms: { total: number; running: number };
  controlRestarts: number;
  /**
   * The control component: the hash of its image, and of the one before while it is on trial; how long there was none
   * before it started.
   */
  control?: {
    version: string;
    image: string;
    trial: boolean;
    hooks: string;
    pauseUs: number;
    before?: string;
  };
  badFrames: number;
  /** Times that the host's serial port lost what it received. */
  overruns?: number;
  /** How often the policy has refused something. */
  denials?: number;
  features: string[];
}

export interface Image {
  name: string;
  size: number;
}

/** A snapshot on the host. */
export interface SnapshotRow {
  name: string;
  vm: string;
  tenant?: string;
  /** Unix seconds. */
  created: number;
  /** Bytes of the VM's memory, and those that only this snapshot holds. */
  memory: number;
  own: number;
  /** "complete", or "incoming" while it is brought there. */
  state: string;
  base?: string;
  note?: string;
}

export interface HostEvent {
  seq: number;
  at: number;
  kind: string;
  vm: string;
  text: string;
}

export interface Check {
  name: string;
  ok: boolean;
  text: string;
}

/** What the machine is. */
export interface Hardware {
  cpu: { name: string; vendor: string; family: number; model: number; stepping: number };
  /** Of those found, apicIds has the first 128. */
  cpus: { running: number; found: number; apicIds: number[] };
  rig: string;
  memory: { total: number };
  /** kind: "BIOS" or "UEFI"; acpi: revision of the root pointer, 0: none; oem and table: of the root table. */
  firmware: { kind: string; acpi: number; oem: string; table: string; tables: string[] };
  /** kind: "VT-d", "AMD-Vi" or "". */
  iommu: { kind: string; units: number; interruptRemapping: boolean };
  nodes: number;
  numa: { node: number; cpus: number; memory: number; free?: number }[];
  pciSegments: number;
  features: string[];
  missing: { name: string; text: string; cost: string }[];
  /** What is wrong with the firmware's tables. */
  problems: string[];
}

export interface PciDevice {
  /** Bus, device and function. */
  at: string;
  /** Vendor and device. */
  id: string;
  class: string;
  text: string;
}

export interface Hello {
  version: number;
  product: string;
  build: string;
  /** How often the control domain was restarted: a successor does not know what was answered before. */
  epoch: number;
}

export interface LogChunk {
  from: number;
  data: Uint8Array;
  next: number;
}

export interface ConsolePush {
  vm: string;
  at: number;
  data: Uint8Array;
}

/** Where a port's bytes go on, and the number at which the VM's side has ended. */
export interface PortAttached {
  read: number;
  write: number;
  ended: number;
  open: boolean;
}

/** What a VM has sent; `session` counts how often it has opened and closed the port. */
export interface PortChunk {
  at: number;
  data: Uint8Array;
  session: number;
  unread: number;
}

/** Where the next byte for the VM goes, and how many it has not taken. */
export interface PortTaken {
  next: number;
  unread: number;
}

export interface Attached {
  at: number;
  oldest: number;
}
