// The host's PCI devices, by the configuration mechanism of ports 0xCF8 and 0xCFC: PCI Local Bus specification,
// "Configuration Space". Everything here only reads.

import { CAP_SELF } from "../gen/abi";
import { portIn, portOut, portsMap } from "../lib/binding";

const PORT_ADDRESS: u32 = 0xcf8;
const PORT_DATA: u32 = 0xcfc;
const ENABLE: u32 = 0x80000000;

const REGISTER_ID: u32 = 0x00;
const REGISTER_CLASS: u32 = 0x08;
const REGISTER_HEADER: u32 = 0x0c;
const MULTI_FUNCTION: u32 = 0x800000;
const NOBODY: u32 = 0xffff;

/** One past the last function of the last bus. */
export const PCI_END: u32 = 0x10000;
/** Devices that one piece looks at, at a microsecond or two each, and functions after which it ends. */
const PIECE_DEVICES = 512;
const PIECE_FUNCTIONS = 24;

export class PciFunction {
  constructor(
    /** Bus, device and function: bits 15 to 8, 7 to 3, 2 to 0. */
    public at: u32,
    /** Device in the upper half, vendor in the lower. */
    public id: u32,
    /** Base class in bits 15 to 8, subclass in 7 to 0. */
    public kind: u32,
  ) {}
}

/** A piece of the list; `next` is where the next one starts, PCI_END when it is the last. */
export class PciPiece {
  functions: PciFunction[] = [];
  next: u32 = PCI_END;
}

function read(at: u32, register: u32): u32 {
  portOut(PORT_ADDRESS, 4, ENABLE | (at << 8) | register);
  return portIn(PORT_DATA, 4);
}

/** The functions from a device on (a multiple of 8). */
export function pciList(from: u32): PciPiece {
  const piece = new PciPiece();
  if (portsMap(CAP_SELF, PORT_ADDRESS, 8) < 0) return piece;
  let at = from & ~7;
  for (let looked = 0; at < PCI_END; at += 8, looked++) {
    if (looked == PIECE_DEVICES || piece.functions.length >= PIECE_FUNCTIONS) {
      piece.next = at;
      break;
    }
    listDevice(piece.functions, at);
  }
  return piece;
}

function listDevice(out: PciFunction[], at: u32): void {
  if ((read(at, REGISTER_ID) & NOBODY) == NOBODY) return;
  const functions: u32 = (read(at, REGISTER_HEADER) & MULTI_FUNCTION) != 0 ? 8 : 1;
  for (let n: u32 = 0; n < functions; n++) {
    const id = read(at + n, REGISTER_ID);
    if ((id & NOBODY) != NOBODY) out.push(new PciFunction(at + n, id, read(at + n, REGISTER_CLASS) >> 16));
  }
}

/** What a class is, in words: PCI Code and ID Assignment specification. */
export function pciClassName(kind: u32): string {
  switch (kind) {
    case 0x0101:
      return "IDE controller";
    case 0x0104:
      return "RAID controller";
    case 0x0106:
      return "SATA controller";
    case 0x0107:
      return "SAS controller";
    case 0x0108:
      return "NVMe controller";
    case 0x0200:
      return "Ethernet controller";
    case 0x0207:
      return "InfiniBand controller";
    case 0x0300:
      return "VGA display";
    case 0x0600:
      return "host bridge";
    case 0x0601:
      return "ISA bridge";
    case 0x0604:
      return "PCI bridge";
    case 0x0700:
      return "serial controller";
    case 0x0806:
      return "IOMMU";
    case 0x0c03:
      return "USB controller";
    case 0x0c05:
      return "SMBus";
  }
  switch (kind >> 8) {
    case 0x01:
      return "storage";
    case 0x02:
      return "network";
    case 0x03:
      return "display";
    case 0x04:
      return "multimedia";
    case 0x05:
      return "memory";
    case 0x06:
      return "bridge";
    case 0x07:
      return "communication";
    case 0x08:
      return "system device";
    case 0x0c:
      return "serial bus";
    case 0x0b:
      return "processor";
    case 0x12:
      return "accelerator";
    default:
      return "";
  }
}
