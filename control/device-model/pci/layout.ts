// Where PCI lies in a VM's port and memory space: what the bus decodes, ACPI tells and E820 reserves.

/** Configuration space by memory: bus 0 only. */
export const ECAM_BASE: u64 = 0xd0000000;
export const ECAM_SIZE: u32 = 0x100000;

/** What the host bridge forwards. BARs that point elsewhere are not decoded. */
export const MEMORY_WINDOW: u32 = 0xe0000000;
export const MEMORY_WINDOW_END: u32 = 0xfec00000;
export const PORT_WINDOW: u32 = 0xc000;
export const PORT_WINDOW_SIZE: u32 = 0x800;

export const CONFIG_ADDRESS_PORT: u32 = 0xcf8;
export const CONFIG_DATA_PORT: u32 = 0xcfc;

export const SLOTS: u32 = 32;

/** Interrupt pin A of slot n: one of eight inputs of the I/O APIC. */
export function gsiOfSlot(slot: u32): u32 {
  return 16 + (slot & 7);
}

/** Pin A of a slot is one of four lines of the interrupt router. */
export const PIRQS: u32 = 4;

export function pirqOfSlot(slot: u32): u32 {
  return (slot + 3) & 3;
}

/** Where memory space for BARs starts. */
export let memoryWindow: u32 = MEMORY_WINDOW;
/** Whether configuration space is there by memory too. */
export let hasEcam: bool = true;

/** As the i440FX has it: no ECAM, and firmware puts BARs anywhere from `start` on. */
export function usePlainLayout(start: u32): void {
  memoryWindow = start;
  hasEcam = false;
}
