// Partitions of the last-level cache and of memory bandwidth: which part each tenant has, as classes of service.
// Intel SDM, "Intel Resource Director Technology (Intel RDT) Allocation Features"; AMD has the same for caches.

import { hostCpuid, partition } from "../lib/binding";
import { cacheWays } from "../protocol/planner";
import { Tenant } from "./tenants";

const regs: usize = memory.data(16, 16);

const LEAF: u32 = 0x10; /* subleaf 1: L3, 3: memory bandwidth */
const ALLOCATES: u32 = 1 << 15; /* leaf 7, EBX */
const HAS_L3: u32 = 2;
const HAS_MEMORY: u32 = 8;
const LINEAR: u32 = 4;

/** What the CPU can do of it. */
export class Partitions {
  /** Classes of service. */
  services: i32 = 0;
  /** Ways of the cache; 0: no cache allocation. */
  ways: i32 = 0;
  /** Percent by which memory accesses can be delayed; 0: no bandwidth allocation. */
  delay: i32 = 0;

  constructor() {
    const has = word(0, 0, 0) >= LEAF && (word(7, 0, 1) & ALLOCATES) != 0;
    const resources = has ? word(LEAF, 0, 1) : 0;
    if ((resources & HAS_L3) != 0) {
      this.ways = <i32>(word(LEAF, 1, 0) & 31) + 1;
      this.services = <i32>(word(LEAF, 1, 3) & 0xffff) + 1;
    }
    if ((resources & HAS_MEMORY) != 0 && (word(LEAF, 3, 2) & LINEAR) != 0) {
      const services = <i32>(word(LEAF, 3, 3) & 0xffff) + 1;
      this.delay = <i32>(word(LEAF, 3, 0) & 0xfff) + 1;
      this.services = this.services > 0 ? min(this.services, services) : services;
    }
  }
}

/** A register, 0 to 3 for EAX to EDX. */
function word(leaf: u32, subleaf: u32, register: u32): u32 {
  return hostCpuid(leaf, subleaf, regs) < 0 ? 0 : load<u32>(regs + 4 * register);
}

let known: Partitions | null = null;

export function partitions(): Partitions {
  if (known == null) known = new Partitions();
  return known!;
}

function isApart(tenant: Tenant): bool {
  return tenant.cache > 0 || tenant.bandwidth > 0;
}

/** Whether the classes of service were ever set. */
let used = false;

/** Gives tenants their parts, in their order; the host and all others share the rest, the lowest ways, as class 0. */
export function partitionsSet(before: Tenant[], list: Tenant[]): void {
  const host = partitions();
  for (let i = 0; i < list.length && !used; i++) used = isApart(list[i]);
  if (!used || host.services == 0) return;
  let top = host.ways;
  for (let i = 0; i < list.length; i++) top -= cacheWays(list[i].cache, host.ways);
  const rest: u64 = host.ways > 0 ? ((<u64>1) << max(top, 1)) - 1 : 0;
  partition(0, 0, rest, 0);
  for (let i = 0; i < before.length; i++) if (before[i].number > 0) partition(before[i].number, 0, rest, 0);
  let service: u32 = 0;
  for (let i = 0; i < list.length; i++) {
    const tenant = list[i];
    if (!isApart(tenant)) continue;
    const ways = cacheWays(tenant.cache, host.ways);
    const own = ways > 0 ? (((<u64>1) << ways) - 1) << top : rest;
    top += ways;
    const delay = tenant.bandwidth > 0 ? 100 - tenant.bandwidth : 0;
    const step = 100 - host.delay; /* what the CPU rounds to */
    partition(tenant.number, ++service, own, step > 0 ? delay - (delay % step) : delay);
  }
}
