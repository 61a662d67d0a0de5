// The SCSI host: one target with one logical unit, a CD-ROM over memory that is mapped at `base`.
//
// Requests are done when they are taken, so there is never one that could be aborted, and no event to tell of.
//
// Source: virtio 1.2, section 5.6, "SCSI Host Device"; SAM-5, section 4.7, "Logical unit number".

import { CdRom } from "./cd-rom";
import { chain } from "./chain";
import { VirtioDevice } from "./device";

const ID: u32 = 8;
const CLASS_SCSI: u32 = 0x010000;
const QUEUE_SIZE: u32 = 128;

const CONTROL: u32 = 0;
const EVENTS: u32 = 1;
const QUEUES: u32 = 3;

// The device's configuration. What a driver writes to the sizes is not taken: they are what they are.
const CONFIG_SIZE: u32 = 36;
const NUM_QUEUES: u32 = 0;
const SEG_MAX: u32 = 4;
const MAX_SECTORS: u32 = 8;
const PER_UNIT: u32 = 12;
const EVENT_SIZE: u32 = 16;
const SENSE_SIZE: u32 = 20;
const CDB_SIZE: u32 = 24;

const CDB: u32 = 32;
const SENSE: u32 = 96;
/** A request: unit u8[8], id u64, attribute u8, priority u8, crn u8, command u8[CDB]. */
const REQUEST: u32 = 19 + CDB;
const COMMAND_AT: u32 = 19;
/** A response: sense length u32, residual u32, qualifier u16, status u8, response u8, sense u8[SENSE]. */
const RESPONSE: u32 = 12 + SENSE;
const RESIDUAL: u32 = 4;
const STATUS: u32 = 10;
const RESULT: u32 = 11;
const SENSE_AT: u32 = 12;

const OK: u8 = 0;
const BAD_TARGET: u8 = 3;
const CHECK_CONDITION: u8 = 2;

// Requests of the control queue.
const TASK: u32 = 0;
const TASK_REQUEST: u32 = 24;
const NOTIFY_RESPONSE: u32 = 5;

const request: usize = memory.data(64, 8);
const response: usize = memory.data(112, 8);

export class Scsi extends VirtioDevice {
  private readonly unit: CdRom;

  /** size: bytes of the image. */
  constructor(base: u64, size: u64) {
    super("scsi", ID, CLASS_SCSI, 0, QUEUES, QUEUE_SIZE, CONFIG_SIZE);
    this.unit = new CdRom(base, size);
    this.setConfig(NUM_QUEUES, 4, 1);
    this.setConfig(SEG_MAX, 4, QUEUE_SIZE - 2);
    this.setConfig(MAX_SECTORS, 4, 0xffff);
    this.setConfig(PER_UNIT, 4, QUEUE_SIZE);
    this.setConfig(EVENT_SIZE, 4, 16);
    this.setConfig(SENSE_SIZE, 4, SENSE);
    this.setConfig(CDB_SIZE, 4, CDB); // channel, target and unit: at most 0
  }

  process(index: u32): void {
    if (index == EVENTS) return;
    const queue = this.queues[index];
    while (queue.pop()) {
      if (!(index == CONTROL ? this.control() : this.command())) {
        queue.fault = "a request is too short, or has no room for its response";
        break;
      }
      queue.push();
    }
    this.finish(index);
  }

  // Tasks are managed by having ended already; there are no events to ask for.
  private control(): bool {
    if (chain.readable < 4 || !chain.take(request, 4)) return false;
    memory.fill(response, 0, NOTIFY_RESPONSE);
    if (load<u32>(request) != TASK) return chain.put(response, NOTIFY_RESPONSE);
    if (!chain.take(request, TASK_REQUEST - 4)) return false;
    store<u8>(response, this.isHere(request + 4) ? OK : BAD_TARGET);
    return chain.put(response, 1);
  }

  // Target 0, or the well-known unit that lists the others. One level of addressing.
  private isHere(unit: usize): bool {
    return load<u16>(unit) == 1 || load<u16>(unit) == 0x01c1;
  }

  private command(): bool {
    if (chain.writable < RESPONSE || !chain.take(request, REQUEST)) return false;
    const room = chain.writable - RESPONSE;
    const unit = this.unit;
    memory.fill(response, 0, RESPONSE);
    unit.nothing();
    if (!this.isHere(request)) store<u8>(response, BAD_TARGET, RESULT);
    else if (!unit.execute(request + COMMAND_AT, this.number())) {
      store<u8>(response, CHECK_CONDITION, STATUS);
      store<u32>(response, unit.putSense(response + SENSE_AT));
    }
    const length = min<u64>(unit.length, room);
    store<u32>(response, <u32>min<u64>(room - length, u32.MAX_VALUE), RESIDUAL);
    chain.put(response, RESPONSE);
    return unit.isImage ? chain.putFrom(unit.image, length) : chain.put(unit.reply, <u32>length);
  }

  // The logical unit of a request.
  private number(): u32 {
    if (load<u16>(request) != 1) return 0;
    return ((load<u8>(request, 2) & 0x3f) << 8) | load<u8>(request, 3);
  }
}
