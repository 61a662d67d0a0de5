// The shapes of the control domain's results, as ../protocol/README.md lists them.

/** One row of `ls`. */
export interface VmRow {
  name: string;
  state: string;
  reason: string;
  memory: number;
  vcpus: number;
  sinceMs: number;
}

/** What one VM should be. */
export interface VmSpec {
  name: string;
  memory: number;
  vcpus?: number;
  kernel: string;
  initrd?: string;
  cmdline?: string;
  console?: string;
  disks?: { image: string; readOnly?: boolean }[];
  start?: boolean;
  restart?: { policy: string; max?: number; window?: number };
}

/** Everything known about one VM. */
export interface VmDetails extends VmRow {
  spec: VmSpec;
  restarts: number;
  lastExit: string | number;
  exits: number;
  interrupts: number;
  forwarded: number;
  counters: Record<string, number>;
  runtimeMs: number;
  overhead: { kernelBytes: number; modelBytes: number };
  mapped: number;
}

export interface HostStatus {
  host: string;
  version: string;
  uptimeMs: number;
  cpu: string;
  rig: string;
  cpus: number;
  memory: { total: number; free: number; kernel: number; reserved: number };
  vms: { total: number; running: number };
  controlRestarts: number;
  badFrames: number;
  /** Times that the host's serial port lost what it received. */
  overruns?: number;
  features: string[];
}

export interface Image {
  name: string;
  size: number;
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

export interface Hello {
  version: number;
  product: string;
  build: string;
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

export interface Attached {
  at: number;
  oldest: number;
}
