// Which frames a network card lets through to its driver, as the driver has said on the control queue.
//
// Source: virtio 1.2, section 5.1.6.5, "Control Virtqueue".

import { chain } from "./chain";

const ADDRESS: u32 = 6;
const TABLE_MAX: u32 = 32;
const VLANS: u32 = 4096;

// Commands of class RX, a byte each.
const PROMISCUOUS: u32 = 0;
const ALL_MULTICAST: u32 = 1;
const ALL_UNICAST: u32 = 2;
const NO_MULTICAST: u32 = 3;
const NO_UNICAST: u32 = 4;
const NO_BROADCAST: u32 = 5;
const MODES: u32 = 6;

const scratch: usize = memory.data(8, 8);

/** Addresses that a driver has given; more than there is room for means all. */
class AddressTable {
  private readonly entries: StaticArray<u64> = new StaticArray<u64>(<i32>TABLE_MAX);
  private count: u32 = 0;
  private all: bool = false;

  clear(): void {
    this.count = 0;
    this.all = false;
  }

  has(address: u64): bool {
    for (let i: u32 = 0; i < this.count; i++) if (this.entries[i] == address) return true;
    return this.all;
  }

  /** Takes a table from the control queue: u32 entries, then 6 bytes each. False: it is shorter than it says. */
  take(): bool {
    this.clear();
    if (!chain.take(scratch, 4)) return false;
    const entries = load<u32>(scratch);
    if (<u64>entries * ADDRESS > chain.readable) return false;
    this.all = entries > TABLE_MAX;
    if (this.all) {
      chain.leave(<u64>entries * ADDRESS);
      return true;
    }
    for (; this.count < entries; this.count++) this.entries[this.count] = takeAddress();
    return true;
  }
}

/** Takes an Ethernet address from the control queue, where there are 6 bytes. */
export function takeAddress(): u64 {
  store<u64>(scratch, 0);
  chain.take(scratch, ADDRESS);
  return load<u64>(scratch);
}

export class NetFilter {
  /** The card's own address, first byte lowest. */
  address: u64 = 0;

  private readonly modes: StaticArray<bool> = new StaticArray<bool>(<i32>MODES);
  private readonly unicast: AddressTable = new AddressTable();
  private readonly multicast: AddressTable = new AddressTable();
  private readonly vlans: StaticArray<u8> = new StaticArray<u8>(<i32>(VLANS / 8));
  private byAddress: bool = false;
  private byVlan: bool = false;

  /** Everything passes, until the driver has said otherwise. */
  reset(): void {
    for (let i: u32 = 0; i < MODES; i++) this.modes[i] = i == PROMISCUOUS;
    this.unicast.clear();
    this.multicast.clear();
    memory.fill(changetype<usize>(this.vlans), 0, VLANS / 8);
  }

  /** What was negotiated. */
  use(byAddress: bool, byVlan: bool): void {
    this.byAddress = byAddress;
    this.byVlan = byVlan;
  }

  get isOpen(): bool {
    return (!this.byAddress && !this.byVlan) || this.modes[PROMISCUOUS];
  }

  /** Command `command` of class RX. False: there is none. */
  setMode(command: u32): bool {
    if (command >= MODES || !chain.take(scratch, 1)) return false;
    this.modes[command] = load<u8>(scratch) != 0;
    return true;
  }

  /** The command that sets both tables. */
  setTables(): bool {
    return this.unicast.take() && this.multicast.take();
  }

  /** The commands that add and remove a VLAN. */
  setVlan(on: bool): bool {
    if (!chain.take(scratch, 2)) return false;
    const id = <u32>load<u16>(scratch);
    if (id >= VLANS) return false;
    const bit = (<u8>1) << (<u8>(id & 7));
    if (on) this.vlans[id >> 3] |= bit;
    else this.vlans[id >> 3] &= ~bit;
    return true;
  }

  /** Whether a frame passes: its first 16 bytes are at `frame`. */
  passes(frame: usize): bool {
    if (this.isOpen) return true;
    if (this.byVlan && load<u16>(frame, 12) == 0x0081) {
      const id = (<u32>bswap<u16>(load<u16>(frame, 14))) & (VLANS - 1);
      if (!(((<u32>this.vlans[id >> 3]) >> (id & 7)) & 1)) return false;
    }
    return !this.byAddress || this.passesAddress(load<u64>(frame) & 0xffffffffffff);
  }

  private passesAddress(to: u64): bool {
    if (to == 0xffffffffffff) return !this.modes[NO_BROADCAST];
    if (to & 1) return !this.modes[NO_MULTICAST] && (this.modes[ALL_MULTICAST] || this.multicast.has(to));
    if (this.modes[NO_UNICAST]) return false;
    return this.modes[ALL_UNICAST] || to == this.address || this.unicast.has(to);
  }
}
