// The console device: port 0 is the VM's console, in the place of the serial port's receiver if the
// specification says so; further ports have names and carry bytes to and from programs outside of the VM.
//
//   queues   0, 1  from and to port 0    2, 3  control, from and to the driver    2 + 2n, 3 + 2n  port n
//
// Source: virtio 1.2, section 5.3, "Console Device".

import { ModelPort } from "../../lib/link";
import { GPA_SHARED } from "../../gen/abi";
import { consoleInputBytes, consoleInputReady, consoleOutput, consoleInputToVirtio } from "../console";
import { link } from "../control-link";
import { chain } from "./chain";
import { VirtioDevice } from "./device";
import { Port, Tell } from "./port";

const ID: u32 = 3;
const CLASS_COMMUNICATION: u32 = 0x078000;
const QUEUE_SIZE: u32 = 16;

const FEATURE_MULTIPORT: u64 = 1 << 1;
const FEATURE_EMERGENCY_WRITE: u64 = 1 << 2;

// The device's configuration: columns and rows (unused), ports, emergency write.
const CONFIG_SIZE: u32 = 12;
const PORTS: u32 = 4;
const EMERGENCY_WRITE: u32 = 8;

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const CONTROL_RECEIVE: u32 = 2;
const CONTROL_TRANSMIT: u32 = 3;

// Control messages: port u32, event u16, value u16; behind a name its text.
const MESSAGE_SIZE: u32 = 8;
const DEVICE_READY: u32 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u32 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u32 = 6;
const PORT_NAME: u16 = 7;

const PIECE: u32 = 256;
/** Of a longer buffer the rest is dropped: nobody could scroll back to it. */
const BUFFER_MAX: u64 = 65536;
/** A name is longer by no specification. */
const NAME_MAX: i32 = 64;

const bytes: usize = memory.data(256, 8);
const message: usize = memory.data(72, 8); // MESSAGE_SIZE + NAME_MAX

export class Console extends VirtioDevice {
  private readonly ports: Port[] = [];

  /** names: of the further ports; isConsole: what is typed comes to port 0. */
  constructor(
    names: string[],
    private readonly isConsole: bool,
  ) {
    const features = FEATURE_EMERGENCY_WRITE | FEATURE_MULTIPORT;
    const queues = <u32>(4 + 2 * names.length);
    super("console", ID, CLASS_COMMUNICATION, features, queues, QUEUE_SIZE, CONFIG_SIZE);
    this.setConfig(PORTS, 4, 1 + names.length);
    this.ports.push(new Port("", null));
    for (let i = 0; i < names.length; i++) this.ports.push(new Port(names[i], new ModelPort(GPA_SHARED, i)));
    if (isConsole) consoleInputToVirtio();
  }

  /** A driver that has no queues yet can print a character. */
  writeConfig(offset: u32, value: u32): void {
    if (offset == EMERGENCY_WRITE) consoleOutput(value);
  }

  reset(): void {
    for (let i = 0; i < this.ports.length; i++) this.ports[i].forget();
  }

  stopped(): void {
    this.reset();
  }

  /** Either side may have done something: typed, written, read, opened or closed. */
  pump(): void {
    if (consoleInputReady()) this.transport!.kick(RECEIVE);
    for (let i = 1; i < this.ports.length; i++) {
      this.ports[i].look();
      this.transport!.kick(2 + 2 * i);
      this.transport!.kick(3 + 2 * i);
    }
    this.transport!.kick(CONTROL_RECEIVE);
  }

  process(index: u32): void {
    if (index == RECEIVE) this.receive();
    else if (index == TRANSMIT) this.transmit();
    else if (!(this.features & FEATURE_MULTIPORT)) return;
    else if (index == CONTROL_RECEIVE) this.tell();
    else if (index == CONTROL_TRANSMIT) this.hear();
    else {
      const port = this.ports[(index >> 1) - 1];
      const moved = index & 1 ? port.transmit(this.queues[index]) : port.receive(this.queues[index]);
      if (moved) link.signal();
      this.finish(index);
    }
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

  // --- control ---

  /** Takes what the driver says of itself and of ports. */
  private hear(): void {
    const queue = this.queues[CONTROL_TRANSMIT];
    while (queue.pop()) {
      if (!chain.take(message, MESSAGE_SIZE)) {
        queue.fault = "a control message is too short";
        break;
      }
      queue.push();
      this.onMessage(load<u32>(message), load<u16>(message, 4), load<u16>(message, 6) != 0);
    }
    this.finish(CONTROL_TRANSMIT);
    this.pump();
  }

  // Of what is not known here, or not there, nothing follows.
  private onMessage(id: u32, event: u32, value: bool): void {
    const ports = this.ports;
    if (event == DEVICE_READY && value) {
      for (let i = this.isConsole ? 0 : 1; i < ports.length; i++) ports[i].add();
    }
    if (id >= <u32>ports.length) return;
    if (event == PORT_READY) ports[id].onReady(value);
    else if (event == PORT_OPEN) ports[id].onOpen(value);
  }

  /** Tells the driver what it does not know yet, as far as it has given buffers for that. */
  private tell(): void {
    const queue = this.queues[CONTROL_RECEIVE];
    for (let i = 0; i < this.ports.length; i++) {
      const port = this.ports[i];
      while (port.untold != 0 && queue.pop()) {
        const what = <Tell>(port.untold & -port.untold);
        if (!chain.put(message, this.compose(i, port, what))) {
          queue.fault = "a buffer for a control message is too short";
          break;
        }
        port.onTold(what);
        queue.push();
      }
    }
    this.finish(CONTROL_RECEIVE);
  }

  /** Writes a message; returns its length. */
  private compose(id: u32, port: Port, what: Tell): u32 {
    store<u32>(message, id);
    store<u16>(message, 1, 6);
    if (what == Tell.ADD) store<u16>(message, PORT_ADD, 4);
    else if (what == Tell.CONSOLE) store<u16>(message, CONSOLE_PORT, 4);
    else if (what != Tell.NAME) {
      store<u16>(message, <u16>PORT_OPEN, 4);
      if (what == Tell.CLOSE) store<u16>(message, 0, 6);
    } else {
      store<u16>(message, PORT_NAME, 4);
      const length = min<i32>(port.name.length, NAME_MAX);
      for (let i = 0; i < length; i++) store<u8>(message + MESSAGE_SIZE + i, <u8>port.name.charCodeAt(i));
      return MESSAGE_SIZE + length;
    }
    return MESSAGE_SIZE;
  }
}
