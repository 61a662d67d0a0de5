// The model's COM1: a 16550 on one side, a queue of bytes each way on the other.

const FIFO = 16;
const IER_DATA = 1;
const IER_EMPTY = 2;
const LCR_DLAB = 0x80;
const MCR_LOOP = 0x10;

export class Uart {
  /** Called when the interrupt line goes up. */
  onInterrupt: () => void = () => undefined;
  private stalled = false;
  /** The next look at LSR shows that received bytes were lost. */
  overrun = false;
  private readonly input: number[] = [];
  private output: number[] = [];
  private readonly registers = new Uint8Array(8);
  private divisor = 12;
  private emptyPending = false;
  private line = false;

  /** Bytes for the machine; they wait here until it reads them. */
  write(data: Uint8Array | string): void {
    this.input.push(...(typeof data === "string" ? Buffer.from(data) : data));
    this.update();
  }

  /** What the machine has sent since the last call. */
  read(): Buffer {
    const bytes = Buffer.from(this.output);
    this.output = [];
    return bytes;
  }

  /** Bytes that the machine has not read yet. */
  get waiting(): number {
    return this.input.length;
  }

  /** The line takes nothing, or takes bytes again. */
  stall(on: boolean): void {
    this.stalled = on;
    this.emptyPending = !on;
    this.update();
  }

  portIn(register: number): number {
    let value = this.registers[register] ?? 0;
    switch (register) {
      case 0:
        value = this.latch ? this.divisor & 0xff : (this.input.shift() ?? 0);
        break;
      case 1:
        if (this.latch) value = this.divisor >> 8;
        break;
      case 2:
        value = 0xc0 | this.cause();
        if ((value & 0xf) === 2) this.emptyPending = false;
        break;
      case 5:
        value = (this.stalled ? 0 : 0x60) | (this.input.length > 0 ? 1 : 0) | (this.overrun ? 2 : 0);
        this.overrun = false;
        break;
      case 6:
        value = 0xb0;
        break;
    }
    this.update();
    return value;
  }

  portOut(register: number, value: number): void {
    if (register === 0) {
      if (this.latch) this.divisor = (this.divisor & 0xff00) | value;
      else if (!((this.registers[4] ?? 0) & MCR_LOOP)) {
        this.output.push(value);
        this.line = false;
        this.emptyPending = !this.stalled;
      }
    } else if (register === 1 && this.latch) this.divisor = (this.divisor & 0xff) | (value << 8);
    else {
      const before = this.registers[1] ?? 0;
      if (register !== 2 && register < 5) this.registers[register] = value;
      if (register === 7) this.registers[7] = value;
      if (register === 2 && value & 2) this.input.length = 0;
      if (register === 1 && value & ~before & IER_EMPTY) this.emptyPending = !this.stalled;
    }
    this.update();
  }

  private get latch(): boolean {
    return ((this.registers[3] ?? 0) & LCR_DLAB) !== 0;
  }

  private cause(): number {
    const enabled = this.registers[1] ?? 0;
    if (enabled & IER_DATA && this.input.length > 0) return this.input.length >= FIFO ? 4 : 0xc;
    return enabled & IER_EMPTY && this.emptyPending ? 2 : 1;
  }

  private update(): void {
    const up = this.cause() !== 1;
    if (up && !this.line) {
      this.line = true;
      this.onInterrupt();
    } else this.line = up;
  }
}
