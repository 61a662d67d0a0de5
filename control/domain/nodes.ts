// The host's NUMA nodes: how much memory each has free, which CPUs it has, and for which of them a VM is.

import { MAX_NODES, PAGE_SIZE } from "../gen/abi";
import { memNodes } from "../lib/binding";
import { chooseNode, findNode, noSuchNode, PlanNode } from "../protocol/planner";
import { ErrorCode } from "../protocol/schema";
import { acpiRead } from "./acpi";
import { hostNow, info, nodeOf } from "./host";
import { Fault } from "./outcome";
import { VmSpec } from "./spec";
import { vmSlot, VmSlot } from "./slots";
import { mib, quoted } from "./text";
import { Vm } from "./vm";
import { vmsAll } from "./vms";

/** Calls to the kernel that count the pages of one VM, at most. */
const MAX_COUNTS = 256;

const counts: usize = memory.data(64, 16); /* u64[MAX_NODES] */

/** What SRAT calls the node of each CPU; -1: it does not say. */
let cpuNodes: i64[] = [];

function nodesOfCpus(): i64[] {
  if (cpuNodes.length > 0) return cpuNodes;
  const acpi = acpiRead();
  for (let cpu: u32 = 0; cpu < info().cpus; cpu++) {
    const at = acpi.affineCpus.indexOf(load<u32>(info().apic_ids.address + 4 * cpu));
    cpuNodes.push(at < 0 ? -1 : <i64>acpi.affineNodes[at]);
  }
  return cpuNodes;
}

/** All nodes that have memory, as they are now. CPUs are told only where there are several. */
export function nodesNow(): PlanNode[] {
  const out: PlanNode[] = [];
  const host = hostNow();
  for (let i: u32 = 0; i < <u32>host.nodes; i++) {
    const node = nodeOf(host, i);
    out.push(new PlanNode(node.id, <i64>(node.free_pages * PAGE_SIZE)));
  }
  if (out.length < 2) return out;
  const own = nodesOfCpus();
  for (let cpu = 0; cpu < own.length; cpu++)
    for (let i = 0; i < out.length; i++) if (out[i].id == own[cpu]) out[i].cpus.push(cpu);
  const vms = vmsAll();
  for (let i = 0; i < vms.length; i++)
    if (vms[i].alive && vms[i].node >= 0 && vms[i].node < out.length)
      out[vms[i].node].vcpus += vms[i].spec.vcpus;
  return out;
}

/** Whether there is a choice. */
export function severalNodes(): bool {
  return hostNow().nodes > 1;
}

/** The place of the node for a VM that starts, of which it takes so many bytes; -1: there is only one. */
export function nodeFor(vm: Vm, needs: u64, cpus: i32[]): i32 {
  return chooseNode(nodesNow(), vm.spec.node, <i64>needs, <i32>vm.spec.vcpus, cpus);
}

/** Why a VM cannot have the node that it asks for, or null. */
export function nodeFault(spec: VmSpec, needs: u64): Fault | null {
  if (spec.node < 0) return null;
  const nodes = nodesNow();
  const at = findNode(nodes, spec.node);
  if (at >= 0 && <i64>needs <= nodes[at].free) return null;
  const lack = at < 0 ? "" : "needs " + mib(needs) + ", " + mib(<u64>nodes[at].free) + " are free on node ";
  const text = at < 0 ? noSuchNode(nodes, spec.node) : lack + spec.node.toString();
  return new Fault(ErrorCode.FAILED, "VM " + quoted(spec.name) + ": " + text, spec.name, "hardware");
}

/** Of the CPUs that a VM may use those of its node, by bit; all of them if they are too few for it. */
export function nearCpus(vm: Vm, cpus: u64): u64 {
  if (vm.node < 0) return cpus;
  const nodes = nodesNow();
  let near: u64 = 0;
  for (let i = 0; vm.node < nodes.length && i < nodes[vm.node].cpus.length; i++)
    near |= (<u64>1) << nodes[vm.node].cpus[i];
  near &= cpus;
  return popcnt(near) >= <u64>vm.spec.vcpus ? near : cpus;
}

/** Bytes of a VM's memory on a node. */
export class NodeShare {
  constructor(
    public id: i64,
    public bytes: u64,
  ) {}
}

/** On which nodes the memory of a VM is; none: there is only one, or it is not up. */
export function nodesOfVm(vm: Vm): NodeShare[] {
  const out: NodeShare[] = [];
  const nodes = nodesNow();
  if (!vm.alive || nodes.length < 2) return out;
  const pages = vm.spec.memory / PAGE_SIZE;
  for (let i = 0; i < nodes.length; i++) out.push(new NodeShare(nodes[i].id, 0));
  let page: u64 = 0;
  for (let n = 0; n < MAX_COUNTS && page < pages; n++) {
    const next = memNodes(vmSlot(vm.index, VmSlot.MEMORY), page, counts);
    if (next <= <i64>page) break;
    page = next;
    for (let i = 0; i < min(out.length, MAX_NODES); i++)
      out[i].bytes += load<u64>(counts + 8 * i) * PAGE_SIZE;
  }
  return out.filter((share: NodeShare): bool => share.bytes > 0);
}
