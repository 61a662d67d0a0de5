// The network device: one end of a cable (control/lib/cable.ts), at whose other end is another VM's card.
//
// What a driver sends goes into the cable as it is, with the header that says what of its checksum and of its
// segmentation is still to be done; the receiving card does that if its driver does not take it. So each card
// needs to know only what its own driver has accepted.
//
// Source: virtio 1.2, section 5.1, "Network Device".

import { now } from "../../lib/binding";
import { Cable, FRAME_MAX, RECORD_SIZE } from "../../lib/cable";
import { Count, COUNT_LINK_UP } from "../../lib/link";
import { writeGuest } from "../guest-memory";
import { tscHz } from "../clock";
import { Timer, TimerClient } from "../timers";
import { chain } from "./chain";
import { VirtioDevice } from "./device";
import {
  addBytes,
  be16,
  CSUM_OFFSET,
  CSUM_START,
  FLAGS,
  FLOW_HEAD,
  flowOf,
  fold,
  GSO_ECN,
  GSO_NONE,
  GSO_TCP4,
  GSO_TYPE,
  HEAD_MAX,
  headerIsSound,
  LongPacket,
  NEEDS_CSUM,
} from "./net-frame";
import { NetFilter, takeAddress } from "./net-filter";

const ID: u32 = 1;
const CLASS_ETHERNET: u32 = 0x020000;
const QUEUE_SIZE: u32 = 256;

const FEATURE_CSUM: u64 = 1 << 0;
const FEATURE_GUEST_CSUM: u64 = 1 << 1;
const FEATURE_CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
const FEATURE_MTU: u64 = 1 << 3;
const FEATURE_MAC: u64 = 1 << 5;
const FEATURE_GUEST_TSO4: u64 = 1 << 7;
const FEATURE_GUEST_TSO6: u64 = 1 << 8;
const FEATURE_GUEST_ECN: u64 = 1 << 9;
const FEATURE_HOST_TSO4: u64 = 1 << 11;
const FEATURE_HOST_TSO6: u64 = 1 << 12;
const FEATURE_HOST_ECN: u64 = 1 << 13;
const FEATURE_MERGE: u64 = 1 << 15;
const FEATURE_STATUS: u64 = 1 << 16;
const FEATURE_CTRL_VQ: u64 = 1 << 17;
const FEATURE_CTRL_RX: u64 = 1 << 18;
const FEATURE_CTRL_VLAN: u64 = 1 << 19;
const FEATURE_CTRL_RX_EXTRA: u64 = 1 << 20;
const FEATURE_ANNOUNCE: u64 = 1 << 21;
const FEATURE_MQ: u64 = 1 << 22;
const FEATURE_CTRL_MAC_ADDRESS: u64 = 1 << 23;

const GUEST_OFFLOADS: u64 = FEATURE_GUEST_CSUM | FEATURE_GUEST_TSO4 | FEATURE_GUEST_TSO6 | FEATURE_GUEST_ECN;
const FEATURES: u64 =
  GUEST_OFFLOADS |
  FEATURE_CSUM |
  FEATURE_CTRL_GUEST_OFFLOADS |
  FEATURE_MTU |
  FEATURE_MAC |
  FEATURE_HOST_TSO4 |
  FEATURE_HOST_TSO6 |
  FEATURE_HOST_ECN |
  FEATURE_MERGE |
  FEATURE_STATUS |
  FEATURE_CTRL_VQ |
  FEATURE_CTRL_RX |
  FEATURE_CTRL_VLAN |
  FEATURE_CTRL_RX_EXTRA |
  FEATURE_ANNOUNCE |
  FEATURE_CTRL_MAC_ADDRESS;

// The device's configuration.
const CONFIG_SIZE: u32 = 12;
const MAC: u32 = 0;
const STATUS: u32 = 6;
const PAIRS: u32 = 8;
const MTU: u32 = 10;
const STATUS_UP: u32 = 1;
const STATUS_ANNOUNCE: u32 = 2;
const MTU_SIZE: u32 = 1500;

// Each pair has a queue to receive with and, behind it, one to transmit with; the control queue is behind the pairs.
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const FLOWS: i32 = 256;

/** Before each frame, in buffers: what a record has from byte 4 on, then buffers u16. */
const HEADER_SIZE: u32 = 12;
const HEADER: usize = 4;
const BUFFERS: usize = 10;

// Commands: class and number.
const LAST_PLAIN_MODE: u32 = 0x0001;
const SET_TABLES: u32 = 0x0100;
const SET_ADDRESS: u32 = 0x0101;
const ADD_VLAN: u32 = 0x0200;
const REMOVE_VLAN: u32 = 0x0201;
const ANNOUNCED: u32 = 0x0300;
const SET_PAIRS: u32 = 0x0400;
const SET_OFFLOADS: u32 = 0x0500;
const DONE: u8 = 0;
const REFUSED: u8 = 1;

/** A driver that takes no frame for a second loses those that wait: its peer must be able to go on. */
const PATIENCE: u64 = 1;

const record: usize = memory.data(16, 8); /* RECORD_SIZE */
const head: usize = memory.data(256, 8); /* HEAD_MAX */
const cutHead: usize = memory.data(256, 8);
const piece: usize = memory.data(2048, 8);
const PIECE: u32 = 2048;
const command: usize = memory.data(8, 8);
const longPacket = new LongPacket(head);

/** Frames that wait for buffers do not wait for ever. */
class Patience extends TimerClient {
  constructor(private readonly owner: Net) {
    super();
  }

  onTimer(): void {
    this.owner.onPatienceEnd();
  }
}

export class Net extends VirtioDevice {
  private readonly filter: NetFilter = new NetFilter();
  private patience: Timer | null = null;
  private stuckAt: u32 = 0; // where the reader was when its patience began
  private waits: u32 = 0; // pairs that wait to send for room in the cable
  private pairs: u32 = 1; // in use
  /** Which pair a flow's last frame was sent by: what comes back is received there. */
  private readonly flows: StaticArray<u8> = new StaticArray<u8>(FLOWS);
  private receiver: u32 = RECEIVE; // the queue for the frame at hand
  private isUp: bool = false;
  private offloads: u64 = 0;
  private lost: bool = false; // the frame at hand is one that the driver cannot have
  private cutAt: u32 = 0; // bytes of the long packet under way that were received

  /** address: first byte lowest. */
  constructor(
    private readonly cable: Cable,
    private address: u64,
    private readonly maxPairs: u32,
  ) {
    super(
      "net",
      ID,
      CLASS_ETHERNET,
      maxPairs > 1 ? FEATURES | FEATURE_MQ : FEATURES,
      2 * maxPairs + 1,
      QUEUE_SIZE,
      CONFIG_SIZE,
    );
    this.counters.length = Count.COUNT;
    this.setConfig(PAIRS, 2, maxPairs);
    this.setConfig(MTU, 2, MTU_SIZE);
    this.patience = new Timer(new Patience(this));
    this.reset();
  }

  private has(features: u64): bool {
    return (this.features & features) == features;
  }

  reset(): void {
    this.cable.pull();
    this.filter.reset();
    this.filter.address = this.address;
    this.setConfig(MAC, 6, this.address);
    this.setConfig(STATUS, 2, 0);
    this.waits = 0;
    this.cutAt = 0;
    this.setPairs(1);
    this.setUp(false);
  }

  private setPairs(pairs: u32): void {
    this.pairs = pairs;
    this.flows.fill(0);
  }

  private get controlQueue(): u32 {
    return this.has(FEATURE_MQ) ? 2 * this.maxPairs : 2;
  }

  ready(): void {
    this.offloads = this.features & GUEST_OFFLOADS;
    this.filter.use(this.has(FEATURE_CTRL_RX), this.has(FEATURE_CTRL_VLAN));
    this.cable.plug();
    this.look();
  }

  stopped(): void {
    this.cable.pull();
    this.setUp(false);
  }

  private setUp(isUp: bool): void {
    this.isUp = isUp;
    this.counters.set(Count.KIND, ID | (isUp ? COUNT_LINK_UP : 0));
    this.counters.publish();
  }

  // Notices that the other end was plugged in or pulled out, and says so.
  private look(): void {
    const isUp = this.cable.isUp;
    if (isUp == this.isUp) return;
    this.setUp(isUp);
    if (!isUp) this.cable.drop();
    this.cutAt = 0;
    this.announce();
  }

  /** Says how the link is. If it is up, the driver announces itself to the network. */
  announce(): void {
    const announce = this.isUp && this.has(FEATURE_ANNOUNCE) ? STATUS_ANNOUNCE : 0;
    this.setConfig(STATUS, 2, this.isUp ? STATUS_UP | announce : 0);
    if (this.has(FEATURE_STATUS)) this.transport!.configChanged();
  }

  /** The VM goes on from a snapshot: on another cable, or on the same where others have been. */
  rejoin(): void {
    this.cable.change();
    this.cutAt = 0;
    this.announce();
    this.onSignal();
  }

  /**
   * It has another address from now on, which its configuration says. Frames come to the one before until its driver
   * begins anew: drivers look at the address only then.
   */
  setAddress(address: u64): void {
    this.address = address;
    this.setConfig(MAC, 6, address);
    this.transport!.configChanged();
  }

  /** The other side has done something. */
  onSignal(): void {
    const transport = this.transport!;
    if (!transport.isLive) {
      this.cable.drop();
      return;
    }
    this.look();
    transport.kick(RECEIVE);
    for (let pair: u32 = 0, waits = this.waits; waits != 0; pair++, waits >>= 1)
      if (waits & 1) transport.kick(2 * pair + TRANSMIT);
    if (this.cable.waiting > 0) this.beginPatience();
  }

  private beginPatience(): void {
    if (this.patience!.deadline != 0) return;
    this.stuckAt = this.cable.in.position;
    this.patience!.set(now() + PATIENCE * tscHz);
  }

  onPatienceEnd(): void {
    const waiting = this.cable.waiting;
    if (waiting == 0) return;
    if (this.cable.in.position == this.stuckAt) {
      while (this.cable.next(record)) this.dropIn();
      this.cutAt = 0;
      this.counters.publish();
    } else this.beginPatience();
  }

  process(index: u32): void {
    const control = this.controlQueue;
    if (index > control) return; // of pairs that were not negotiated
    if (index == control) this.control();
    else if (index & 1) this.transmit(index);
    else {
      this.receive(index);
      return;
    }
    this.finish(index);
  }

  // --- sending ---

  private transmit(index: u32): void {
    const queue = this.queues[index];
    const pair = index >> 1;
    this.waits &= ~(1 << pair);
    while (queue.pop()) {
      if (chain.readable < HEADER_SIZE) {
        queue.fault = "a frame has no header";
        break;
      }
      chain.take(record + HEADER, HEADER_SIZE);
      if (!this.send(chain.readable, pair)) {
        this.waits |= 1 << pair;
        queue.rewind();
        break;
      }
      queue.push();
    }
    this.cable.wake();
  }

  // Sends what is left in the chain. False: there is no room, it has to wait.
  private send(length: u64, pair: u32): bool {
    if (!this.isUp || !this.maySend(length)) {
      this.counters.add(Count.DROPS_OUT, 1);
      return true;
    }
    const size = <u32>length;
    const cable = this.cable;
    if (!cable.reserve(size)) return false;
    store<u32>(record, size);
    store<u16>(record, 0, 14);
    cable.write(0, record, RECORD_SIZE);
    let at: u32 = 0;
    if (this.pairs > 1) {
      at = min(size, FLOW_HEAD);
      chain.take(head, at);
      cable.write(RECORD_SIZE, head, at);
      this.flows[flowOf(head, at)] = <u8>pair;
    }
    while (at < size) {
      const run = min(size - at, cable.out.run(RECORD_SIZE + at));
      chain.takeTo(cable.out.address(RECORD_SIZE + at), run);
      at += run;
    }
    cable.commit(size);
    this.counters.add(Count.FRAMES_OUT, 1);
    this.counters.add(Count.FRAME_BYTES_OUT, size);
    return true;
  }

  private maySend(length: u64): bool {
    const header = record + HEADER;
    store<u8>(header, load<u8>(header, FLAGS) & (<u8>NEEDS_CSUM), FLAGS);
    if (length > FRAME_MAX || !headerIsSound(header, <u32>length, MTU_SIZE)) return false;
    if (load<u8>(header, FLAGS) == 0) return true;
    const kind = <u32>load<u8>(header, GSO_TYPE);
    let needs = FEATURE_CSUM;
    if (kind & GSO_ECN) needs |= FEATURE_HOST_ECN;
    if ((kind & ~GSO_ECN) != GSO_NONE)
      needs |= (kind & ~GSO_ECN) == GSO_TCP4 ? FEATURE_HOST_TSO4 : FEATURE_HOST_TSO6;
    return this.has(needs);
  }

  // --- receiving ---

  // The queues of all pairs have one cable: a frame whose queue has no buffers keeps those behind it waiting.
  private receive(index: u32): void {
    const queue = this.queues[index];
    const cable = this.cable;
    let used: u32 = 0;
    while (queue.hasTurn() && cable.next(record)) {
      const length = load<u32>(record);
      this.receiver = this.chooseReceiver(length);
      used |= 1 << this.receiver;
      this.lost = !headerIsSound(record + HEADER, length, MTU_SIZE) || !this.passes();
      if (!this.lost && !this.accept(length)) break;
      if (this.lost) this.dropIn();
      else {
        this.counters.add(Count.FRAMES_IN, 1);
        this.counters.add(Count.FRAME_BYTES_IN, length);
        cable.release();
      }
    }
    for (let n: u32 = 0; used != 0; n++, used >>= 1) {
      if (!(used & 1)) continue;
      // A turn that was over in another queue is this one's: it is this one that goes on.
      if (this.queues[n].unfinished) queue.unfinished = true;
      this.finish(n);
    }
  }

  private chooseReceiver(length: u32): u32 {
    if (this.pairs == 1) return RECEIVE;
    const have = min(length, FLOW_HEAD);
    this.cable.read(head, RECORD_SIZE, have);
    const pair = <u32>this.flows[flowOf(head, have)];
    return pair < this.pairs ? 2 * pair + RECEIVE : RECEIVE;
  }

  private dropIn(): void {
    this.queues[this.receiver].spend();
    this.counters.add(Count.DROPS_IN, 1);
    this.cable.release();
  }

  private passes(): bool {
    if (this.filter.isOpen) return true;
    this.cable.read(head, RECORD_SIZE, 16);
    return this.filter.passes(head);
  }

  // Gives the frame in the cable to the driver, in the form that it takes. False: it has too few buffers.
  private accept(length: u32): bool {
    const header = record + HEADER;
    const kind = <u32>load<u8>(header, GSO_TYPE);
    if (!(load<u8>(header, FLAGS) & NEEDS_CSUM)) {
      memory.fill(header, 0, HEADER_SIZE);
      return this.deliver(head, 0, RECORD_SIZE, length);
    }
    if (this.takes(kind)) {
      store<u8>(header, <u8>NEEDS_CSUM, FLAGS);
      return this.deliver(head, 0, RECORD_SIZE, length);
    }
    const have = min(length, HEAD_MAX);
    this.cable.read(head, RECORD_SIZE, have);
    if ((kind & ~GSO_ECN) != GSO_NONE) return this.acceptCut(have, length);
    const start = <u32>load<u16>(header, CSUM_START);
    const place = start + load<u16>(header, CSUM_OFFSET);
    memory.fill(header, 0, HEADER_SIZE);
    if (place + 2 > have) return this.lose(); // nobody's headers are that long
    const sum = this.sum(addBytes(0, head + start, have - start), have, length - have);
    store<u16>(head + place, <u16>fold(sum));
    return this.deliver(head, have, RECORD_SIZE + have, length - have);
  }

  private lose(): bool {
    this.lost = true;
    this.cutAt = 0;
    return true;
  }

  private takes(kind: u32): bool {
    let needs = FEATURE_GUEST_CSUM;
    if (kind & GSO_ECN) needs |= FEATURE_GUEST_ECN;
    if ((kind & ~GSO_ECN) != GSO_NONE)
      needs |= (kind & ~GSO_ECN) == GSO_TCP4 ? FEATURE_GUEST_TSO4 : FEATURE_GUEST_TSO6;
    return (this.offloads & needs) == needs;
  }

  // Adds `length` bytes of the frame in the cable to a sum, from byte `offset`.
  private sum(sum: u64, offset: u32, length: u32): u64 {
    while (length > 0) {
      const size = min(length, PIECE);
      this.cable.read(piece, RECORD_SIZE + offset, size);
      sum = addBytes(sum, piece, size);
      offset += size;
      length -= size;
    }
    return sum;
  }

  // Segment by segment; when buffers run out it goes on where it was.
  private acceptCut(have: u32, length: u32): bool {
    const header = record + HEADER;
    if (!longPacket.parse(header, have, length)) return this.lose();
    memory.fill(header, 0, HEADER_SIZE);
    const payload = length - longPacket.length;
    if (this.cutAt > payload) this.cutAt = 0; // the peer has changed what it sent
    let isLast = false;
    while (!isLast) {
      const size = min(longPacket.segment, payload - this.cutAt);
      const from = longPacket.length + this.cutAt;
      isLast = this.cutAt + size == payload;
      longPacket.cut(cutHead, this.cutAt, size, isLast, this.sum(0, from, size));
      if (!this.deliver(cutHead, longPacket.length, RECORD_SIZE + from, size)) return false;
      this.cutAt += size;
    }
    this.cutAt = 0;
    return true;
  }

  // Gives the driver a frame: `headLength` bytes at `from`, then `length` bytes of the cable from `offset` on,
  // with the header in `record`. False: it has too few buffers, and none was used.
  private deliver(from: usize, headLength: u32, offset: u32, length: u32): bool {
    const queue = this.queues[this.receiver];
    if (!this.nextBuffer()) return false;
    const header = record + HEADER;
    const total = <u64>headLength + length;
    const fits = HEADER_SIZE + total <= chain.writable;
    if (!fits && !this.has(FEATURE_MERGE)) {
      queue.rewind();
      return this.lose();
    }
    store<u16>(header, 1, BUFFERS);
    let low: u64 = 0;
    let high: u64 = 0;
    if (fits) chain.put(header, HEADER_SIZE);
    else {
      chain.put(header, <u32>BUFFERS);
      low = chain.nextByte();
      chain.put(header + BUFFERS, 1);
      high = chain.nextByte();
      chain.put(header + BUFFERS + 1, 1);
    }
    let buffers: u32 = 1;
    while (true) {
      if (headLength > 0) {
        const size = <u32>min<u64>(headLength, chain.writable);
        chain.put(from, size);
        from += size;
        headLength -= size;
      }
      while (length > 0 && chain.writable > 0 && headLength == 0) {
        const run = min(length, this.cable.in.run(offset));
        const size = <u32>min<u64>(run, chain.writable);
        chain.putFrom(this.cable.in.address(offset), size);
        offset += size;
        length -= size;
      }
      queue.fill();
      if (headLength + length == 0) break;
      if (!this.nextBuffer()) {
        queue.rewind();
        return false;
      }
      buffers++;
    }
    if (buffers > 1) {
      writeGuest(low, 1, buffers & 0xff);
      writeGuest(high, 1, buffers >> 8);
    }
    queue.flush();
    return true;
  }

  private nextBuffer(): bool {
    const queue = this.queues[this.receiver];
    if (!queue.pop()) return false;
    if (chain.writable >= HEADER_SIZE) return true;
    queue.fault = "a buffer for frames is too short";
    return false;
  }

  // --- commands ---

  private control(): void {
    const queue = this.queues[this.controlQueue];
    while (queue.pop()) {
      if (chain.writable < 1) {
        queue.fault = "a command has no room for its answer";
        break;
      }
      const isDone = chain.take(command, 2) && this.obey(be16(command));
      store<u8>(command, isDone ? DONE : REFUSED);
      chain.put(command, 1);
      queue.push();
    }
  }

  // A command belongs to a feature: without it there is none.
  private obey(what: u32): bool {
    switch (what) {
      case SET_TABLES:
        return this.has(FEATURE_CTRL_RX) && this.filter.setTables();
      case SET_ADDRESS:
        if (!this.has(FEATURE_CTRL_MAC_ADDRESS) || chain.readable < 6) return false;
        this.filter.address = takeAddress();
        this.setConfig(MAC, 6, this.filter.address);
        return true;
      case ADD_VLAN:
      case REMOVE_VLAN:
        return this.has(FEATURE_CTRL_VLAN) && this.filter.setVlan(what == ADD_VLAN);
      case ANNOUNCED:
        if (!this.has(FEATURE_ANNOUNCE)) return false;
        this.setConfig(STATUS, 2, this.isUp ? STATUS_UP : 0);
        return true;
      case SET_PAIRS:
        return this.has(FEATURE_MQ) && chain.take(command, 2) && this.usePairs(load<u16>(command));
      case SET_OFFLOADS:
        if (!this.has(FEATURE_CTRL_GUEST_OFFLOADS) || !chain.take(command, 8)) return false;
        if (load<u64>(command) & ~(this.features & GUEST_OFFLOADS)) return false;
        this.offloads = load<u64>(command);
        return true;
      default:
        // Class 0: a mode each, of which the first two are those of every card with filters.
        return (
          this.has(what <= LAST_PLAIN_MODE ? FEATURE_CTRL_RX : FEATURE_CTRL_RX_EXTRA) &&
          this.filter.setMode(what)
        );
    }
  }

  private usePairs(pairs: u32): bool {
    if (pairs == 0 || pairs > this.maxPairs) return false;
    this.setPairs(pairs);
    return true;
  }
}
