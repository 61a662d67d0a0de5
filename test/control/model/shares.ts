// Shares of CPUs, as the kernel admits them: sums of reservations, and CPUs that are dedicated.

import { CONTROL_PERCENT, ScheduleClass, Status, VcpuShareAt } from "../../../control/gen/abi";
import { refuseIf } from "./faults";
import type { KernelModel } from "./kernel-model";
import type { Vcpu } from "./objects";

export interface Share {
  scheduling: ScheduleClass;
  weight: number;
  /** Parts of a CPU, 0 to 1; 0: no budget. */
  part: number;
  cpus: bigint;
  /** Where it is. */
  cpu: number;
}

export const SHARE_DEFAULT: Share = {
  scheduling: ScheduleClass.SHARED,
  weight: 100,
  part: 0,
  cpus: ~0n,
  cpu: 0,
};

function read(comm: Uint8Array): Share {
  const view = new DataView(comm.buffer, comm.byteOffset);
  const budget = Number(view.getBigUint64(VcpuShareAt.budget, true));
  const period = Number(view.getBigUint64(VcpuShareAt.period, true));
  const scheduling = view.getUint32(VcpuShareAt.scheduling, true);
  const weight = view.getUint32(VcpuShareAt.weight, true);
  refuseIf(scheduling > ScheduleClass.DEDICATED || weight > 10_000 || budget > period, Status.BAD_ARGUMENT);
  refuseIf(scheduling === ScheduleClass.SHARED && weight === 0, Status.BAD_ARGUMENT);
  refuseIf((scheduling === ScheduleClass.RESERVED) !== budget > 0 && scheduling !== 0, Status.BAD_ARGUMENT);
  const part = period === 0 ? 0 : budget / period;
  return { scheduling, weight, part, cpus: view.getBigUint64(VcpuShareAt.cpus, true), cpu: 0 };
}

function canPromise(share: Share, cpu: number, others: Vcpu[]): boolean {
  const here = others.filter(
    (other) => other.share.cpu === cpu && other.share.scheduling !== ScheduleClass.SHARED,
  );
  const parts = here.reduce((sum, other) => sum + other.share.part, cpu === 0 ? CONTROL_PERCENT / 100 : 0);
  if (here.some((other) => other.share.scheduling === ScheduleClass.DEDICATED)) return false;
  if (share.scheduling === ScheduleClass.SHARED) return true;
  return share.scheduling === ScheduleClass.DEDICATED ? cpu > 0 && parts === 0 : parts + share.part <= 1;
}

/** The share that the caller's comm page asks for; NO_QUOTA if no CPU has it. */
export function admit(comm: Uint8Array, vcpu: Vcpu, kernel: KernelModel): Share {
  const share = read(comm);
  const others = [...kernel.domains].flatMap((domain) => domain.vcpus).filter((other) => other !== vcpu);
  for (let cpu = 0; cpu < (kernel.options.cpus ?? 1); cpu++) {
    if (!((share.cpus >> BigInt(cpu)) & 1n) || !canPromise(share, cpu, others)) continue;
    return { ...share, cpu };
  }
  refuseIf(true, Status.NO_QUOTA);
  return share;
}
