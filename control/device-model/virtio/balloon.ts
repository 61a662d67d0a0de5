// The balloon: pages that the driver gives to it, or reports as free, give their frames back to the host.
//
// A page that is touched again, by the VM or by this device model, gets a new frame from the kernel: so
// nothing is to be done when the driver takes pages back, and pages that are in use can be given by
// mistake or malice without harm to anybody else.
//
// Source: virtio 1.2, section 5.5, "Traditional Memory Balloon Device".

import { CAP_MEMORY, RELEASE_MAX } from "../../gen/abi";
import { memRelease } from "../../lib/binding";
import { Count } from "../../lib/link";
import { HIGH_MEMORY } from "../../lib/pc-memory";
import { inMemory, lowSize } from "../guest-memory";
import { chain } from "./chain";
import { VirtioDevice } from "./device";
import { allowWork, Virtqueue } from "./queue";

const ID: u32 = 5;
const CLASS_OTHER: u32 = 0xff0000;
const QUEUE_SIZE: u32 = 64;

const FEATURE_STATS: u64 = 1 << 1;
const FEATURE_DEFLATE_ON_OOM: u64 = 1 << 2;
const FEATURE_PAGE_POISON: u64 = 1 << 4;
const FEATURE_REPORTING: u64 = 1 << 5;

// The device's configuration.
const CONFIG_SIZE: u32 = 16;
const NUM_PAGES: u32 = 0;
const ACTUAL: u32 = 4;
const POISON: u32 = 12;

const INFLATE: u32 = 0;
const DEFLATE: u32 = 1;
const STATS: u32 = 2;
/*
 * Reports come by queue 4. Drivers that do not count the queues of features that they do not use take
 * queue 2 or 3 for it (Linux does); as nothing else can come there, each will do.
 */
const QUEUES: u32 = 5;

/** Bytes of page numbers in one buffer, at most. */
const LIST_MAX: u32 = 16384;
/** Pages after which others get their turn. */
const TURN: u64 = 16384;

const PAGE_SHIFT: u64 = 12;
const PAGE: u64 = 1 << PAGE_SHIFT;
const LIST_PIECE: u32 = 256;
/** A statistic: tag u16, value u64. There are ten tags. */
const STAT_SIZE: u32 = 10;
const STATS_MAX: u32 = 64 * STAT_SIZE;

const list: usize = memory.data(256, 8);

/** Where a statistic is counted; KIND: nowhere. */
function statPlace(tag: u32): Count {
  switch (tag) {
    case 2:
      return Count.STAT_MAJOR_FAULTS;
    case 4:
      return Count.STAT_FREE;
    case 5:
      return Count.STAT_TOTAL;
    case 6:
      return Count.STAT_AVAILABLE;
    case 7:
      return Count.STAT_CACHES;
    default:
      return Count.KIND;
  }
}

export class Balloon extends VirtioDevice {
  // Neighbours are released together: [first, end) in pages of the memory object.
  private first: u64 = 0;
  private end: u64 = 0;
  private done: u64 = 0;

  constructor() {
    const features = FEATURE_STATS | FEATURE_DEFLATE_ON_OOM | FEATURE_PAGE_POISON | FEATURE_REPORTING;
    super("balloon", ID, CLASS_OTHER, features, QUEUES, QUEUE_SIZE, CONFIG_SIZE);
    this.counters.length = Count.COUNT;
  }

  /** How many pages the driver should give. */
  setTarget(pages: u32): void {
    this.setConfig(NUM_PAGES, 4, pages);
    this.transport!.configChanged();
  }

  /** The driver says how many it has given, and what its free pages are filled with. */
  writeConfig(offset: u32, value: u32): void {
    if ((offset ^ ACTUAL) >= 4 && (offset ^ POISON) >= 4) return;
    this.config[offset] = <u8>value;
    this.counters.set(Count.BALLOON_PAGES, this.configWord(ACTUAL));
    this.counters.publish();
  }

  private configWord(offset: u32): u32 {
    return load<u32>(changetype<usize>(this.config) + offset);
  }

  reset(): void {
    this.setConfig(ACTUAL, 4, 0);
    this.setConfig(POISON, 4, 0);
    this.counters.set(Count.BALLOON_PAGES, 0);
    this.counters.set(Count.STAT_TOTAL, 0);
    this.counters.publish();
  }

  /** Asks for new statistics: the driver has its buffer back, and fills it again. */
  askForStats(): void {
    if (!this.transport!.isLive || !(this.features & FEATURE_STATS)) return;
    const queue = this.queues[STATS];
    allowWork();
    if (queue.pop()) {
      queue.push();
      if (queue.pop()) queue.rewind(); // with nothing there, it has asked to be notified of the next
    }
    this.finish(STATS);
  }

  // The buffer stays with the device until new ones are wanted.
  private readStats(queue: Virtqueue): void {
    if (queue.pop()) {
      if (chain.readable > STATS_MAX) queue.fault = "statistics are too long";
      while (chain.take(list, STAT_SIZE)) {
        const place = statPlace(load<u16>(list));
        if (place != Count.KIND) this.counters.set(place, load<u64>(list, 2));
      }
      if (queue.fault.length == 0) queue.rewind();
    }
    this.finish(STATS);
  }

  process(index: u32): void {
    const queue = this.queues[index];
    if (index == STATS && this.features & FEATURE_STATS) return this.readStats(queue);
    this.done = 0;
    while (queue.pop()) {
      if (index == INFLATE) this.inflate(queue);
      else if (index != DEFLATE) this.report(queue);
      if (queue.fault.length > 0) break;
      queue.push();
      if (this.done < TURN) continue;
      queue.unfinished = true;
      break;
    }
    this.finish(index);
  }

  // The buffer lists page numbers.
  private inflate(queue: Virtqueue): void {
    const length = <u32>min<u64>(chain.readable, LIST_MAX + 1);
    if (length == 0 || length % 4 != 0 || length > LIST_MAX) {
      queue.fault = "a list of pages has a bad length";
      return;
    }
    for (let left = length; left > 0;) {
      const piece = min<u32>(left, LIST_PIECE);
      chain.take(list, piece);
      for (let i: u32 = 0; i < piece; i += 4) {
        const gpa = (<u64>load<u32>(list + i)) << PAGE_SHIFT;
        if (inMemory(gpa, PAGE)) this.add(gpa, 1);
        else queue.fault = "a page is no memory";
      }
      left -= piece;
    }
    this.release();
  }

  // The buffer consists of free pages. What is filled with something else than zeros must stay so.
  private report(queue: Virtqueue): void {
    if (chain.readable > 0) {
      queue.fault = "a report of free pages cannot be written";
      return;
    }
    const poisoned = (this.features & FEATURE_PAGE_POISON) != 0 && this.configWord(POISON) != 0;
    while (chain.writable > 0) {
      const start = (chain.nextByte() + PAGE - 1) & ~(PAGE - 1);
      const end = (chain.nextByte() + chain.skipSegment()) & ~(PAGE - 1);
      if (end > start && !poisoned && inMemory(start, end - start)) {
        this.add(start, (end - start) >> PAGE_SHIFT);
      }
    }
    chain.written = 0;
    this.release();
  }

  private add(gpa: u64, pages: u64): void {
    const first = (gpa < HIGH_MEMORY ? gpa : gpa - HIGH_MEMORY + lowSize) >> PAGE_SHIFT;
    if (first == this.end) this.end += pages;
    else if (first + pages == this.first) this.first = first;
    else {
      this.release();
      this.first = first;
      this.end = first + pages;
    }
  }

  // The kernel refuses when a large page is to be split and there is no quota for that: then it stays.
  private release(): void {
    this.done += this.end - this.first;
    for (let at = this.first; at < this.end; at += RELEASE_MAX) {
      memRelease(CAP_MEMORY, at, min<u64>(this.end - at, RELEASE_MAX));
    }
    this.first = 0;
    this.end = 0;
  }
}
