// An example: the tenant "lab" gets small VMs on the upper half of the CPUs, its VMs that crash come back, but not for
// ever, and of those that scale there are as many copies as have something to do.

import { EVENT_VM_ENDED } from "../../protocol/schema";
import { HOOK_START, HookAction, Hooks, HookScale, HookVm } from "./hooks";

const LAB: string = "lab";
const MAX_MEMORY: i64 = 1 << 30;
/** Percent of their vCPUs above which one copy more is made, and below which one goes. */
const BUSY: i32 = 70;
const IDLE: i32 = 20;
const MAX_RESTARTS: i32 = 3;

class LabHooks extends Hooks {
  override name(): string {
    return LAB;
  }

  override admit(vm: HookVm): string {
    if (vm.tenant != LAB || vm.memory <= MAX_MEMORY) return "";
    return "a VM of tenant lab has at most 1 GiB";
  }

  override place(vm: HookVm, cpus: i32): i32[] {
    const upper: i32[] = [];
    for (let cpu: i32 = cpus - (cpus >> 1); vm.tenant == LAB && cpu < cpus; cpu++) upper.push(cpu);
    return upper;
  }

  override scale(facts: HookScale): i32 {
    if (facts.vm.tenant != LAB || facts.copies == 0) return facts.copies;
    if (facts.cpu > BUSY && facts.free > facts.vm.memory) return facts.copies + 1;
    return facts.cpu < IDLE ? facts.copies - 1 : facts.copies;
  }

  override onEvent(kind: string, vm: HookVm): HookAction | null {
    if (vm.tenant != LAB || kind != EVENT_VM_ENDED || vm.restarts >= MAX_RESTARTS) return null;
    const again = new HookAction();
    again.action = HOOK_START;
    again.reason =
      "a lab VM crashed, start " + (vm.restarts + 1).toString() + " of " + MAX_RESTARTS.toString();
    return again;
  }
}

/** What the build puts into the control image. */
export function hooks(): Hooks {
  return new LabHooks();
}
