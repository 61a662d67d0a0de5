// Serial ports: 16550s driven by interrupts. Nothing here waits; what does not fit stays with the caller.

import { CAP_SELF } from "../gen/abi";
import { irqAck, irqCreate, portIn, portOut, portsMap, capDrop } from "../lib/binding";
import { EVENT_UART } from "./slots";

const FIFO_SIZE: u32 = 16;
/** In one event, at most: causes that are read, bytes that are received, FIFOs that are filled. */
const MAX_CAUSES = 256;
const MAX_RECEIVED: u32 = 4096;
const MAX_FILLS = 256;

const enum Register {
  DATA = 0 /* divisor low while LCR.DLAB is set */,
  IER = 1 /* divisor high */,
  IIR_FCR = 2,
  LCR = 3,
  MCR = 4,
  LSR = 5,
  MSR = 6,
}
const enum Ier {
  RECEIVED = 1,
  EMPTY = 2,
  LINE = 4,
}
const enum Iir {
  NONE = 1,
  MASK = 0x0e,
  MODEM = 0x00,
  EMPTY = 0x02,
  LINE = 0x06,
}
const enum Lsr {
  DATA_READY = 1,
  OVERRUN = 2 /* reading LSR clears it */,
  EMPTY = 0x20,
}

/** Bytes that wait to be sent, at most. */
export const UART_QUEUE: u32 = 8192;

/** What becomes of what is received, and where what is sent comes from. */
export abstract class UartUser {
  abstract receive(byte: u32): void;
  /** The transmitter is empty: more may be queued. */
  abstract refill(): void;
}

export class Uart {
  private head: u32 = 0;
  private tail: u32 = 0;
  private emptyEnabled: bool = false;
  /** Bytes that may still be received in this event. */
  private left: u32 = MAX_RECEIVED;
  present: bool = false;
  /** How often received bytes were lost because the FIFO was full. */
  overruns: u64 = 0;

  constructor(
    private base: u32,
    private irq: u32,
    private slot: u32,
    /** UART_QUEUE bytes. */
    private queue: usize,
  ) {}

  /** 115200 8N1, FIFOs on, interrupts on. False: there is no such UART. */
  start(): bool {
    if (portsMap(CAP_SELF, this.base, 8) < 0) return false;
    this.write(Register.IER, 0);
    this.write(Register.LCR, 0x80);
    this.write(Register.DATA, 1);
    this.write(Register.IER, 0);
    this.write(Register.LCR, 3);
    this.write(Register.IIR_FCR, 0xc7);
    this.write(Register.MCR, 0x0b);
    if (this.read(Register.LSR) == 0xff) return false;
    this.emptyEnabled = false;
    capDrop(this.slot);
    if (irqCreate(this.slot, this.irq, EVENT_UART) < 0) return false;
    this.present = true;
    this.write(Register.IER, Ier.RECEIVED | Ier.LINE);
    irqAck(this.slot);
    return true;
  }

  /** Bytes that wait to be sent. */
  get queued(): u32 {
    return this.head - this.tail;
  }

  /** Bytes that `put` takes. */
  get room(): u32 {
    return UART_QUEUE - this.queued;
  }

  /** Whether the last event has left bytes that were received. */
  get isBehind(): bool {
    return this.present && this.left == 0;
  }

  /** Queues a byte; the caller has asked `room`. */
  put(byte: u32): void {
    store<u8>(this.queue + (this.head & (UART_QUEUE - 1)), byte);
    this.head++;
  }

  /** Starts sending what there is, if nothing is being sent. */
  kick(user: UartUser): void {
    if (this.present && !this.emptyEnabled) this.send(user);
  }

  /**
   * Looks after the UART: at its interrupt and now and then without one, since an interrupt may be late (a VM
   * that runs with interrupts off holds them up on some machines) or lost.
   */
  event(user: UartUser): void {
    if (!this.present) return;
    this.left = MAX_RECEIVED;
    this.serveCauses(user);
    this.receiveAll(user); // whatever the causes said: an edge may have been lost
    if (this.emptyEnabled) this.send(user);
  }

  private read(register: Register): u32 {
    return portIn(this.base + register, 1);
  }

  private write(register: Register, value: u32): void {
    portOut(this.base + register, 1, value);
  }

  /** The line's state. Each overrun is seen by one read only, so that all reads are here. */
  private status(): u32 {
    const status = this.read(Register.LSR);
    if ((status & Lsr.OVERRUN) != 0 && status != 0xff) this.overruns++;
    return status;
  }

  private enableEmpty(on: bool): void {
    if (on == this.emptyEnabled) return;
    this.emptyEnabled = on;
    this.write(Register.IER, Ier.RECEIVED | Ier.LINE | (on ? Ier.EMPTY : 0));
  }

  /**
   * Sends what the transmitter takes. Emulated ones take all at once, and would interrupt for each byte: so the
   * interrupt is off meanwhile, and on again only if there is something to wait for.
   */
  private send(user: UartUser): void {
    for (let i = 0; i < MAX_FILLS; i++) {
      user.refill();
      if (this.head == this.tail || (this.status() & Lsr.EMPTY) == 0) break;
      this.enableEmpty(false);
      this.fillFifo();
    }
    user.refill();
    this.enableEmpty(this.head != this.tail);
  }

  private fillFifo(): void {
    for (let i: u32 = 0; i < FIFO_SIZE && this.head != this.tail; i++) {
      this.write(Register.DATA, load<u8>(this.queue + (this.tail & (UART_QUEUE - 1))));
      this.tail++;
    }
  }

  private receiveAll(user: UartUser): void {
    for (; this.left > 0 && (this.status() & Lsr.DATA_READY) != 0; this.left--)
      user.receive(this.read(Register.DATA));
  }

  /** An edge that comes before the kernel unmasks the line is lost: the cause is read once more after irqAck. */
  private serveCauses(user: UartUser): void {
    let acked = false;
    for (let i = 0; i < MAX_CAUSES && this.left > 0; i++) {
      const cause = this.read(Register.IIR_FCR);
      if ((cause & Iir.NONE) != 0) {
        if (acked) return;
        irqAck(this.slot);
        acked = true;
        continue;
      }
      const kind = cause & Iir.MASK;
      if (kind == Iir.EMPTY) {
        this.send(user);
      } else if (kind == Iir.LINE) {
        this.status();
      } else if (kind == Iir.MODEM) {
        this.read(Register.MSR);
      } else {
        this.receiveAll(user);
      }
    }
    if (!acked) irqAck(this.slot);
  }
}
