// The host bridge in slot 0: a header and nothing else; what it forwards is fixed (layout.ts).

import { PciFunction } from "./function";

// "QEMU PCIe Host bridge", which has no registers either; no system has a quirk for it.
const VENDOR: u32 = 0x1b36;
const DEVICE: u32 = 0x0008;
const CLASS_HOST_BRIDGE: u32 = 0x060000;

export class HostBridge extends PciFunction {
  constructor() {
    super(VENDOR, DEVICE, CLASS_HOST_BRIDGE, 0);
  }
}
