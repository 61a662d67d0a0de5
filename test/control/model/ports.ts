// Ports of the model's machine that a component may have: COM1 and COM2, the real-time clock, and PCI configuration.

import { ComponentFault } from "./faults";
import type { Domain } from "./objects";
import type { Uart } from "./uart";

const COM_PORTS = 8;
const RTC_INDEX = 0x70;
const RTC_DATA = 0x71;
const PCI_ADDRESS = 0xcf8;
const PCI_DATA = 0xcfc;

export class Ports {
  private rtcIndex = 0;
  private pciAddress = 0;

  constructor(
    /** By their first port. */
    private readonly uarts: ReadonlyMap<number, Uart>,
    /** Unix milliseconds. */
    private readonly wallClock: () => number,
    private readonly pci = new Map<number, Uint8Array>(),
  ) {}

  read(domain: Domain, port: number, size: number): number {
    this.check(domain, port);
    const uart = this.uarts.get(port & -COM_PORTS);
    if (uart && size === 1) return uart.portIn(port % COM_PORTS);
    if (port === RTC_DATA) return this.rtc();
    if (port === PCI_DATA && size === 4) return this.pciRead();
    return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
  }

  write(domain: Domain, port: number, size: number, value: number): void {
    this.check(domain, port);
    if (size === 1) this.uarts.get(port & -COM_PORTS)?.portOut(port % COM_PORTS, value & 0xff);
    if (port === PCI_ADDRESS && size === 4) this.pciAddress = value;
    if (port === PCI_DATA) throw new ComponentFault("exit", port, "PCI configuration is only read");
    if (port === RTC_INDEX) this.rtcIndex = value & 0x7f;
  }

  private check(domain: Domain, port: number): void {
    if (!domain.ports.some((range) => port >= range.first && port < range.first + range.count)) {
      throw new ComponentFault("exit", port, `port 0x${port.toString(16)} is not this domain's`);
    }
  }

  private pciRead(): number {
    const space = this.pci.get((this.pciAddress >>> 8) & 0xffff);
    if (!space || this.pciAddress >>> 31 === 0) return 0xffffffff;
    return Buffer.from(space).readUInt32LE(this.pciAddress & 0xfc);
  }

  private rtc(): number {
    const date = new Date(this.wallClock());
    const bcd = (value: number): number => (Math.floor(value / 10) << 4) | (value % 10);
    switch (this.rtcIndex) {
      case 0:
        return bcd(date.getUTCSeconds());
      case 2:
        return bcd(date.getUTCMinutes());
      case 4:
        return bcd(date.getUTCHours());
      case 6:
        return bcd(date.getUTCDay() + 1);
      case 7:
        return bcd(date.getUTCDate());
      case 8:
        return bcd(date.getUTCMonth() + 1);
      case 9:
        return bcd(date.getUTCFullYear() % 100);
      case 0x0b:
        return 2;
      case 0x0d:
        return 0x80;
      case 0x32:
        return bcd(Math.floor(date.getUTCFullYear() / 100));
      default:
        return 0;
    }
  }
}
