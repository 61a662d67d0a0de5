// Linux VMs with a card on the network `lan`, as the tests of networks have them.

import * as assert from "uvu/assert";
import type { DeviceRow } from "../../control/cli/results";
import type { Host } from "./host";

export const ANNA = "anna";
export const OTTO = "otto";
export const CLONE = "emma";
export const ADDRESS: Record<string, string> = {
  [ANNA]: "10.0.0.1",
  [OTTO]: "10.0.0.2",
  [CLONE]: "10.0.0.3",
};

/** Creates a VM with a card, and waits until it has its address. */
export async function createOnLan(host: Host, vm: string, ...more: string[]): Promise<void> {
  await host.createLinux(vm, "96M", ["--network", "lan", ...more], "initrd-virtio");
  await setAddress(host, vm);
}

/** Gives a VM's card its address. */
export async function setAddress(host: Host, vm: string): Promise<void> {
  const line = `ifconfig eth0 ${ADDRESS[vm]} netmask 255.255.255.0 up; echo has an add''ress`;
  await host.type(vm, line, "^has an address");
}

/** Lets the card's driver begin anew. */
export async function rebind(host: Host, vm: string): Promise<void> {
  const driver = "cd /sys/bus/virtio/drivers/virtio_net; card=$(echo virtio*)";
  await host.type(vm, `(${driver}; echo $card >unbind; echo $card >bind); echo bou''nd`, "^bound");
}

/** What the host says of a VM's card. */
export async function card(host: Host, vm: string): Promise<DeviceRow> {
  const found = (await host.client.show(vm)).devices?.find((device) => device.network !== undefined);
  assert.ok(found, `${vm} has no network card`);
  return found!;
}
