// The 16550A serial port COM1, wired to the VM's console.
//
// Source: National Semiconductor PC16550D datasheet (TL/C/8652). A byte that is written is gone at once:
// no baud rate is imitated, so the transmitter is always empty. Received bytes wait in the console ring
// until the FIFO has room. The chip's INTR pin reaches IRQ 4 through OUT2, as on every PC.

import { consoleInput, consoleOutput } from "../console";
import { IRQ_COM1, setIrq } from "../interrupts";
import { PortDevice } from "../port-bus";

export const COM1: u32 = 0x3f8;

// Registers, by offset. With DLAB, 0 and 1 are the divisor.
const DATA: u32 = 0; // RBR, THR
const IER: u32 = 1;
const IIR: u32 = 2; // read; FCR when written
const LCR: u32 = 3;
const MCR: u32 = 4;
const LSR: u32 = 5;
const MSR: u32 = 6;
const SCR: u32 = 7;

const IER_RX: u32 = 1;
const IER_THRE: u32 = 2;
const IER_LINE: u32 = 4;
const IER_MODEM: u32 = 8;

const IIR_NONE: u32 = 0x01;
const IIR_LINE: u32 = 0x06;
const IIR_RX: u32 = 0x04;
const IIR_TIMEOUT: u32 = 0x0c;
const IIR_THRE: u32 = 0x02;
const IIR_MODEM: u32 = 0x00;
const IIR_FIFOS: u32 = 0xc0;

const FCR_ENABLE: u32 = 1;
const FCR_CLEAR_RX: u32 = 2;

const LCR_DLAB: u32 = 0x80;

const MCR_OUT2: u32 = 0x08;
const MCR_LOOP: u32 = 0x10;

const LSR_READY: u32 = 0x01;
const LSR_OVERRUN: u32 = 0x02;
const LSR_EMPTY: u32 = 0x60; // THRE and TEMT

// CTS, DSR and DCD are up: somebody is always there.
const MSR_CONNECTED: u32 = 0xb0;

const FIFO_SIZE: u32 = 16;

class Uart extends PortDevice {
  private fifo: StaticArray<u8> = new StaticArray<u8>(<i32>FIFO_SIZE);
  private fifoHead: u32 = 0;
  private fifoCount: u32 = 0;
  private divisor: u32 = 1;
  private ier: u32 = 0;
  private fcr: u32 = 0;
  private lcr: u32 = 0;
  private mcr: u32 = 0;
  private scr: u32 = 0;
  private overrun: u32 = 0;
  private modemDelta: u32 = 0; // the low half of MSR
  private modem: u32 = MSR_CONNECTED;
  private thrPending: bool = false;
  private line: bool = false;

  /** The console ring may have bytes: fills the FIFO. */
  pullInput(): void {
    if (this.mcr & MCR_LOOP) return;
    const room = this.capacity() - this.fifoCount;
    for (let i: u32 = 0; i < room; i++) {
      const byte = consoleInput();
      if (byte < 0) break;
      this.push(byte);
    }
    this.update();
  }

  private capacity(): u32 {
    return this.fcr & FCR_ENABLE ? FIFO_SIZE : 1;
  }

  private push(byte: u32): void {
    if (this.fifoCount >= this.capacity()) {
      this.overrun = LSR_OVERRUN;
      return;
    }
    unchecked((this.fifo[(this.fifoHead + this.fifoCount) & (FIFO_SIZE - 1)] = <u8>byte));
    this.fifoCount++;
  }

  private pop(): u32 {
    if (this.fifoCount == 0) return 0;
    const byte = unchecked(this.fifo[this.fifoHead]);
    this.fifoHead = (this.fifoHead + 1) & (FIFO_SIZE - 1);
    if (--this.fifoCount == 0) this.pullInput();
    else this.update();
    return byte;
  }

  private triggerLevel(): u32 {
    if (!(this.fcr & FCR_ENABLE)) return 1;
    const code = this.fcr >> 6;
    return code == 0 ? 1 : code == 1 ? 4 : code == 2 ? 8 : 14;
  }

  // The interrupt of the highest priority. Bytes below the trigger level count as timed out at once.
  private source(): u32 {
    if (this.ier & IER_LINE && this.overrun) return IIR_LINE;
    if (this.ier & IER_RX && this.fifoCount > 0) {
      return this.fifoCount >= this.triggerLevel() ? IIR_RX : IIR_TIMEOUT;
    }
    if (this.ier & IER_THRE && this.thrPending) return IIR_THRE;
    if (this.ier & IER_MODEM && this.modemDelta) return IIR_MODEM;
    return IIR_NONE;
  }

  private update(): void {
    const up = (this.mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2 && this.source() != IIR_NONE;
    if (up == this.line) return;
    this.line = up;
    setIrq(IRQ_COM1, up);
  }

  portRead(port: u32, _size: u32): u32 {
    const register = port & 7;
    if (register == LSR) return this.readLsr();
    if (register == IIR) return this.readIir();
    if (register == DATA) return this.lcr & LCR_DLAB ? this.divisor & 0xff : this.pop();
    if (register == IER) return this.lcr & LCR_DLAB ? this.divisor >> 8 : this.ier;
    if (register == LCR) return this.lcr;
    if (register == MCR) return this.mcr;
    if (register == MSR) return this.readMsr();
    return this.scr;
  }

  private readLsr(): u32 {
    const value = LSR_EMPTY | this.overrun | (this.fifoCount > 0 ? LSR_READY : 0);
    if (this.overrun) {
      this.overrun = 0;
      this.update();
    }
    return value;
  }

  private readIir(): u32 {
    const source = this.source();
    if (source == IIR_THRE) {
      this.thrPending = false;
      this.update();
    }
    return source | (this.fcr & FCR_ENABLE ? IIR_FIFOS : 0);
  }

  private readMsr(): u32 {
    const value = this.modem | this.modemDelta;
    this.modemDelta = 0;
    this.update();
    return value;
  }

  portWrite(port: u32, _size: u32, value: u32): void {
    value &= 0xff;
    const register = port & 7;
    if (register == DATA) {
      if (this.lcr & LCR_DLAB) this.divisor = (this.divisor & 0xff00) | value;
      else this.transmit(value);
    } else if (register == IER) {
      if (this.lcr & LCR_DLAB) this.divisor = (this.divisor & 0x00ff) | (value << 8);
      else this.writeIer(value & 0x0f);
    } else if (register == IIR) {
      this.writeFcr(value);
    } else if (register == LCR) {
      this.lcr = value;
    } else if (register == MCR) {
      this.writeMcr(value & 0x1f);
    } else if (register == SCR) {
      this.scr = value;
    }
  }

  private transmit(byte: u32): void {
    if (this.mcr & MCR_LOOP) this.push(byte);
    else consoleOutput(byte);
    this.thrPending = true;
    if (this.ier) this.update();
  }

  // Enabling the THRE interrupt while the transmitter is empty, which it always is, raises it.
  private writeIer(value: u32): void {
    if (value & IER_THRE && !(this.ier & IER_THRE)) this.thrPending = true;
    this.ier = value;
    this.update();
  }

  private writeFcr(value: u32): void {
    const toggled = ((value ^ this.fcr) & FCR_ENABLE) != 0;
    if (toggled || value & FCR_CLEAR_RX) {
      this.fifoCount = 0;
      this.overrun = 0;
    }
    // Without FCR_ENABLE the other bits are not programmed; the clear bits do not stay.
    this.fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
    this.pullInput();
  }

  // Loopback: RTS, DTR, OUT1, OUT2 become CTS, DSR, RI, DCD.
  private writeMcr(value: u32): void {
    this.mcr = value;
    let modem = MSR_CONNECTED;
    if (value & MCR_LOOP) {
      modem = ((value & 2) << 3) | ((value & 1) << 5) | ((value & 4) << 4) | ((value & 8) << 4);
    }
    const changed = modem ^ this.modem;
    // RI counts only when it falls.
    this.modemDelta |= ((changed >> 4) & 0x0b) | ((changed & this.modem & 0x40) >> 4);
    this.modem = modem;
    this.pullInput();
    this.update();
  }
}

export const uart = new Uart();
