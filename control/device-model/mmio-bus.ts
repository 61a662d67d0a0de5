// The MMIO bus: which device answers a guest-physical address that is not memory.

/** A device with registers in memory space. `offset` counts from the start of its region. */
export abstract class MmioDevice {
  abstract mmioRead(offset: u32, size: u32): u64;
  abstract mmioWrite(offset: u32, size: u32, value: u64): void;
}

class NoDevice extends MmioDevice {
  mmioRead(_offset: u32, _size: u32): u64 {
    return ~0;
  }

  mmioWrite(_offset: u32, _size: u32, _value: u64): void {}
}

/** A piece of memory space that belongs to a device. It can move, and be taken off the bus (a PCI BAR). */
export class Region {
  /** Bytes from `base` on that answer: all or none. */
  length: u64;

  constructor(
    public base: u64,
    private size: u32,
    public device: MmioDevice,
  ) {
    this.length = size;
  }

  place(base: u64, active: bool): void {
    hole = NO_HOLE;
    this.base = base;
    this.length = active ? this.size : 0;
  }

  // @ts-ignore: decorator
  @inline
  holds(gpa: u64, size: u32): bool {
    const offset = gpa - this.base;
    return offset < this.length && offset + size <= this.length;
  }
}

const MAX_REGIONS = 64;
const regions = new StaticArray<Region | null>(MAX_REGIONS);
let regionCount = 0;
let lastHit = new Region(0, 0, new NoDevice());
let rest = lastHit.device;
const NO_HOLE: u64 = ~0;
/** The last page that was looked for and that nobody claims: drivers and firmware probe for long. */
let hole = NO_HOLE;

/** Gives what nobody claims below 4 GiB to a device, which sees addresses as offsets. */
export function claimRest(device: MmioDevice): void {
  rest = device;
}

/** Gives [base, base + size) to a device: whole pages. */
export function claimMmio(device: MmioDevice, base: u64, size: u32): Region {
  assert(regionCount < MAX_REGIONS && ((base | size) & 0xfff) == 0, "mmio bus: too many regions or a bad one");
  const region = new Region(base, size, device);
  regions[regionCount++] = region;
  hole = NO_HOLE;
  return region;
}

// @ts-ignore: decorator
@inline
function find(gpa: u64, size: u32): bool {
  return lastHit.holds(gpa, size) || (gpa >> 12 != hole && search(gpa, size));
}

function search(gpa: u64, size: u32): bool {
  for (let i = 0; i < regionCount; i++) {
    const region = unchecked(regions[i])!;
    if (region.holds(gpa, size)) {
      lastHit = region;
      return true;
    }
  }
  if ((gpa & 0xfff) + size <= 0x1000) hole = gpa >> 12;
  return false;
}

/** Reads 1 to 8 bytes. Only the low `size` bytes of the result count. */
export function mmioRead(gpa: u64, size: u32): u64 {
  if (find(gpa, size)) return lastHit.device.mmioRead(<u32>(gpa - lastHit.base), size);
  return gpa >> 32 == 0 ? rest.mmioRead(<u32>gpa, size) : ~0;
}

/** Writes 1 to 8 bytes. */
export function mmioWrite(gpa: u64, size: u32, value: u64): void {
  if (find(gpa, size)) lastHit.device.mmioWrite(<u32>(gpa - lastHit.base), size, value);
  else if (gpa >> 32 == 0) rest.mmioWrite(<u32>gpa, size, value);
}
