// The MMIO bus: which device answers a guest-physical address that is not memory.

/** A device with registers in memory space. `offset` counts from the start of its region. */
export abstract class MmioDevice {
  abstract mmioRead(offset: u32, size: u32): u64;
  abstract mmioWrite(offset: u32, size: u32, value: u64): void;
}

/** Accesses that nobody answered. */
export let unclaimedMmio: u32 = 0;

class NoDevice extends MmioDevice {
  mmioRead(_offset: u32, _size: u32): u64 {
    unclaimedMmio++;
    return ~0;
  }

  mmioWrite(_offset: u32, _size: u32, _value: u64): void {
    unclaimedMmio++;
  }
}

/** A piece of memory space that belongs to a device. It can move, and be taken off the bus (a PCI BAR). */
export class Region {
  /** Whether it answers. */
  active: bool = true;

  constructor(
    public base: u64,
    public size: u32,
    public device: MmioDevice,
  ) {}

  holds(gpa: u64, size: u32): bool {
    return this.active && gpa >= this.base && gpa - this.base <= <u64>this.size - size;
  }
}

const MAX_REGIONS = 64;
const regions = new StaticArray<Region | null>(MAX_REGIONS);
let regionCount = 0;
let lastHit = new Region(0, 8, new NoDevice());
const nobody = lastHit.device;
lastHit.active = false;

/** Gives [base, base + size) to a device; size is at least 8. */
export function claimMmio(device: MmioDevice, base: u64, size: u32): Region {
  assert(regionCount < MAX_REGIONS && size >= 8, "mmio bus: too many regions or a bad one");
  const region = new Region(base, size, device);
  regions[regionCount++] = region;
  return region;
}

function find(gpa: u64, size: u32): bool {
  if (lastHit.holds(gpa, size)) return true;
  for (let i = 0; i < regionCount; i++) {
    const region = regions[i]!;
    if (region.holds(gpa, size)) {
      lastHit = region;
      return true;
    }
  }
  return false;
}

/** Reads 1 to 8 bytes. Only the low `size` bytes of the result count. */
export function mmioRead(gpa: u64, size: u32): u64 {
  if (find(gpa, size)) return lastHit.device.mmioRead(<u32>(gpa - lastHit.base), size);
  return nobody.mmioRead(0, size);
}

/** Writes 1 to 8 bytes. */
export function mmioWrite(gpa: u64, size: u32, value: u64): void {
  if (find(gpa, size)) lastHit.device.mmioWrite(<u32>(gpa - lastHit.base), size, value);
  else nobody.mmioWrite(0, size, value);
}
