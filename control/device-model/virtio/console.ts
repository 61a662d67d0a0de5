// The console device with one port, wired to the VM's console in the place of the serial port's receiver.
//
// Source: virtio 1.2, section 5.3, "Console Device".

import { consoleInputBytes, consoleInputReady, consoleOutput, consoleInputToVirtio } from "../console";
import { chain } from "./chain";
import { VirtioDevice } from "./device";

const ID: u32 = 3;
const CLASS_COMMUNICATION: u32 = 0x078000;
const QUEUE_SIZE: u32 = 64;

const FEATURE_EMERGENCY_WRITE: u64 = 1 << 2;

// The device's configuration: columns and rows (unused), ports, emergency write.
const CONFIG_SIZE: u32 = 12;
const PORTS: u32 = 4;
const EMERGENCY_WRITE: u32 = 8;

export const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;

const PIECE: u32 = 256;
/** Of a longer buffer the rest is dropped: nobody could scroll back to it. */
const BUFFER_MAX: u64 = 65536;

const bytes: usize = memory.data(256, 8);

export class Console extends VirtioDevice {
  constructor() {
    super("console", ID, CLASS_COMMUNICATION, FEATURE_EMERGENCY_WRITE, 2, QUEUE_SIZE, CONFIG_SIZE);
    this.setConfig(PORTS, 4, 1);
    consoleInputToVirtio();
  }

  /** A driver that has no queues yet can print a character. */
  writeConfig(offset: u32, value: u32): void {
    if (offset == EMERGENCY_WRITE) consoleOutput(value);
  }

  process(index: u32): void {
    if (index == RECEIVE) this.receive();
    else if (index == TRANSMIT) this.transmit();
  }

  // A buffer is taken only when there is something to put into it.
  private receive(): void {
    const queue = this.queues[RECEIVE];
    while (consoleInputReady() && queue.pop()) {
      const room = <u32>min<u64>(chain.writable, PIECE);
      if (room == 0) {
        queue.fault = "a buffer for input cannot be written";
        break;
      }
      chain.put(bytes, consoleInputBytes(bytes, room));
      queue.push();
    }
    this.finish(RECEIVE);
  }

  private transmit(): void {
    const queue = this.queues[TRANSMIT];
    while (queue.pop()) {
      let left = <u32>min<u64>(chain.readable, BUFFER_MAX);
      while (left > 0) {
        const piece = min<u32>(left, PIECE);
        chain.take(bytes, piece);
        for (let i: u32 = 0; i < piece; i++) consoleOutput(load<u8>(bytes + i));
        left -= piece;
      }
      queue.push();
    }
    this.finish(TRANSMIT);
  }
}
