// The port bus: which device answers which of the 65,536 ports.
//
//   port >> 8 --> rowOf[256] --> row * 256 + (port & 255) --> ownerOf[] --> devices[] or wideDevices[]
//
// Row 0 belongs to nobody, so two byte loads find the device of any port, and an absent device is an
// ordinary one that reads as all ones. An access of 2 or 4 bytes goes to wideDevices: there a device that
// knows bytes only has the splitter in its place, so the usual path has no branch for it.

/** A device with ports. An access lies in the ports that the device registered. */
export abstract class PortDevice {
  abstract portRead(port: u32, size: u32): u32;
  abstract portWrite(port: u32, size: u32, value: u32): void;
}

/** Accesses that nobody answered. */
export let unclaimedPorts: u32 = 0;

// A block of ports that the VM may put anywhere: it answers where nobody else does.
let movable: PortDevice | null = null;
let movableAt: u32 = 0;
let movableCount: u32 = 0;

/** Puts the movable block at `first`; `count` 0: nowhere. */
export function moveBlock(device: PortDevice, first: u32, count: u32): void {
  movable = device;
  movableAt = first;
  movableCount = count;
}

// What the ISA bus gives when nobody drives it.
class NoDevice extends PortDevice {
  portRead(port: u32, size: u32): u32 {
    if (port - movableAt < movableCount) return movable!.portRead(port, size);
    unclaimedPorts++;
    return 0xffffffff;
  }

  portWrite(port: u32, size: u32, value: u32): void {
    if (port - movableAt < movableCount) movable!.portWrite(port, size, value);
    else unclaimedPorts++;
  }
}

// Accesses that are wider than a device's registers, or run over its end: byte by byte, as on the ISA bus.
class Splitter extends PortDevice {
  portRead(port: u32, size: u32): u32 {
    let value: u32 = 0;
    for (let i: u32 = 0; i < size; i++) {
      const at = (port + i) & 0xffff;
      value |= (devices[ownerAt(at)].portRead(at, 1) & 0xff) << (8 * i);
    }
    return value;
  }

  portWrite(port: u32, size: u32, value: u32): void {
    for (let i: u32 = 0; i < size; i++) {
      const at = (port + i) & 0xffff;
      devices[ownerAt(at)].portWrite(at, 1, (value >> (8 * i)) & 0xff);
    }
  }
}

const ROWS: u32 = 16;
const MAX_DEVICES: u32 = 32;

const rowOf = new StaticArray<u8>(256);
const ownerOf = new StaticArray<u8>(<i32>(ROWS * 256));
const devices = new StaticArray<PortDevice>(<i32>MAX_DEVICES);
const wideDevices = new StaticArray<PortDevice>(<i32>MAX_DEVICES);
let rowCount: u32 = 1;
let deviceCount: u32 = 1;

const nobody = new NoDevice();
const splitter = new Splitter();
for (let i: u32 = 0; i < MAX_DEVICES; i++) {
  devices[i] = nobody;
  wideDevices[i] = splitter;
}
wideDevices[0] = nobody;

/**
 * Gives ports [first, first + count) to a device, whoever had them before. `wide`: the device wants
 * accesses of 2 and 4 bytes whole, also such as run over its end; otherwise they arrive byte by byte.
 */
export function claimPorts(device: PortDevice, first: u32, count: u32, wide: bool = false): void {
  const owner = numberOf(device);
  wideDevices[owner] = wide ? device : splitter;
  let next: u32 = 0;
  for (let port = first; port < first + count; port = next) {
    const page = port >> 8;
    if (rowOf[page] == 0) {
      assert(rowCount < ROWS, "port bus: too many rows");
      rowOf[page] = <u8>rowCount;
      rowCount++;
    }
    next = min((page + 1) << 8, first + count);
    const cells = changetype<usize>(ownerOf) + (((<u32>rowOf[page]) << 8) | (port & 255));
    memory.fill(cells, <u8>owner, next - port);
  }
}

function numberOf(device: PortDevice): u32 {
  for (let i: u32 = 1; i < deviceCount; i++) {
    if (devices[i] === device) return i;
  }
  assert(deviceCount < MAX_DEVICES, "port bus: too many devices");
  devices[deviceCount] = device;
  return deviceCount++;
}

// Sound without bounds checks: every byte of rowOf is below ROWS, every byte of ownerOf below
// MAX_DEVICES, and `port` is masked to 16 bits.
function ownerAt(port: u32): u32 {
  const row = <u32>unchecked(rowOf[(port >> 8) & 255]);
  return unchecked(ownerOf[(row << 8) | (port & 255)]);
}

/** The device that answers an access of `size` bytes. */
function deviceAt(port: u32, size: u32): PortDevice {
  const owner = ownerAt(port);
  return size == 1 ? unchecked(devices[owner]) : unchecked(wideDevices[owner]);
}

/** Reads 1, 2 or 4 bytes from a port. Only the low `size` bytes of the result count. */
export function portRead(port: u32, size: u32): u32 {
  return deviceAt(port, size).portRead(port, size);
}

/** Writes 1, 2 or 4 bytes to a port. */
export function portWrite(port: u32, size: u32, value: u32): void {
  deviceAt(port, size).portWrite(port, size, value);
}
