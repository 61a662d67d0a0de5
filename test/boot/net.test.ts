// A network between two stock Linux VMs, one with split and one with packed rings: data both ways, and what
// happens when one of them is not there.
// rigs: VT-x, AMD-V

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";
import { ADDRESS, ANNA, card, createOnLan, OTTO, rebind, setAddress } from "./lan";

const DATA = 900_000;

let host: Host;
let free = 0;

async function waitCarrier(vm: string, state: string): Promise<void> {
  const loop = `while [ $(cat /sys/class/net/eth0/carrier) != ${state} ]; do usleep 100000; done; echo carrier is ''${state}`;
  await host.type(vm, loop, `^carrier is ${state}`);
}

test.before(async () => {
  host = await Host.boot("net", join("build", "disk.iso"));
  free = await host.free();
  await createOnLan(host, ANNA, "--rings", "split");
  await createOnLan(host, OTTO, "--disk", "disk,ro", "--vcpus", "2");
});
test.after(async () => host?.stop());

test("the cards have addresses of their own, and the link is up", async () => {
  await waitCarrier(ANNA, "1");
  const [a, b] = [await card(host, ANNA), await card(host, OTTO)];
  assert.is.not(a.mac, b.mac);
  await host.type(ANNA, "cat /sys/class/net/eth0/address", `^${a.mac}`);
  await host.type(OTTO, "cat /sys/class/net/eth0/address", `^${b.mac}`);
  assert.is(a.link, "up");
});

test("one has split rings, the other packed ones", async () => {
  // Bit 34 of the features, as Linux prints them: first bit first.
  const bits = "cut -c35 /sys/bus/virtio/drivers/virtio_net/virtio*/features | sed s/^/packed:/";
  await host.type(ANNA, bits, "^packed:0");
  await host.type(OTTO, bits, "^packed:1");
});

test("they reach each other", async () => {
  await host.type(ANNA, `ping -c 3 ${ADDRESS[OTTO]}`, "3 packets received, 0% packet loss");
});

test("a card has a pair of queues for each vCPU, and answers come to the pair that asked", async () => {
  const queues = (vm: string, rest: string): Promise<string> =>
    host.type(vm, "ls /sys/class/net/eth0/queues | tr '\\\\n' '+' | sed s/^/has:/", `^has:${rest}`);
  await queues(ANNA, "rx-0\\+tx-0\\+");
  await queues(OTTO, "rx-0\\+rx-1\\+tx-0\\+tx-1\\+");
  const received = async (pair: number): Promise<number> => {
    const line = `grep virtio.-input.${pair} /proc/interrupts | sed 's/ *PCI.*//; s/^.*:/to ${pair}:/'`;
    const text = await host.type(OTTO, line, `^to ${pair}:[ \\d]+`);
    const counts = new RegExp(`^to ${pair}:([ \\d]+)`, "m").exec(text)?.[1] ?? "";
    return counts.split(" ").reduce((sum, count) => sum + Number(count), 0);
  };
  for (const pair of [1, 0]) {
    const before = await received(pair);
    const ping = `taskset ${1 << pair} ping -c 3 -q ${ADDRESS[ANNA]}`;
    await host.type(OTTO, ping, "3 packets received, 0% packet loss");
    assert.ok((await received(pair)) > before, `pair ${pair}`);
  }
});

test("data goes both ways at once and arrives whole", async () => {
  // Half of a program each: data that no compression or repetition hides an error in.
  const parts: Record<string, string> = { [ANNA]: "head", [OTTO]: "tail" };
  for (const [vm, part] of Object.entries(parts))
    await host.type(
      vm,
      `${part} -c ${DATA} /bin/busybox >/tmp/data; httpd -p 80 -h /tmp; echo ser''ves`,
      "^serves",
    );
  const fetch = (vm: string, from: string): Promise<string> =>
    host.type(vm, `wget -q -O /tmp/got http://${ADDRESS[from]}/data; echo wget said $?`, "^wget said 0");
  await Promise.all([fetch(ANNA, OTTO), fetch(OTTO, ANNA)]);
  const sums: Record<string, string> = {};
  for (const vm of [ANNA, OTTO]) {
    const text = await host.type(vm, "sha256sum /tmp/data /tmp/got", "^[0-9a-f]{64}  /tmp/got");
    for (const [, sum, file] of text.replace(/\r/g, "").matchAll(/^([0-9a-f]{64}) {2}\/tmp\/(\w+)/gm))
      sums[`${vm} ${file}`] = sum!;
  }
  assert.ok(sums[`${ANNA} data`] && sums[`${OTTO} data`] && sums[`${ANNA} data`] !== sums[`${OTTO} data`]);
  assert.is(sums[`${OTTO} got`], sums[`${ANNA} data`]);
  assert.is(sums[`${ANNA} got`], sums[`${OTTO} data`]);
});

test("what one has sent, the other has received or dropped", async () => {
  for (const vm of [ANNA, OTTO]) await host.type(vm, "ifconfig eth0 down; echo is do''wn", "^is down");
  const [a, b] = [await card(host, ANNA), await card(host, OTTO)];
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    assert.ok(from.bytesOut > DATA, `${from.bytesOut} bytes were sent`);
    assert.is(from.framesOut, to.framesIn! + to.dropsIn!);
    if (to.dropsIn === 0) assert.is(from.bytesOut, to.bytesIn);
  }
  for (const vm of [ANNA, OTTO]) await host.type(vm, "ifconfig eth0 up; echo is u''p", "^is up");
});

test("a third card on the network is refused", async () => {
  await host.refused(
    1,
    [/network "lan" has two cards already, of "anna" and "otto"/],
    ...["create", "third", "--memory", "64M", "--kernel", "linux", "--network", "lan"],
  );
});

test("a clone's card has another address when its driver begins anew; until then all goes on", async () => {
  const before = (await card(host, ANNA)).framesIn!;
  const addresses = [0x0504030201fan];
  const as = { name: "clone", generation: Buffer.alloc(16, 1), wallClock: 0n, addresses, clone: true };
  await host.client.reborn(OTTO, as);
  // It announces itself to its network.
  for (let n = 0; (await card(host, ANNA)).framesIn === before; n++) assert.ok(n < 100, "no announcement");
  await host.type(OTTO, `ping -c 3 ${ADDRESS[ANNA]}`, "3 packets received, 0% packet loss");
  await host.type(OTTO, "cat /sys/class/net/eth0/address", `^${(await card(host, OTTO)).mac}`);
  await rebind(host, OTTO);
  await host.type(OTTO, "cat /sys/class/net/eth0/address", "^fa:01:02:03:04:05");
  await setAddress(host, OTTO);
  await waitCarrier(ANNA, "1");
  await host.type(OTTO, `ping -c 3 ${ADDRESS[ANNA]}`, "3 packets received, 0% packet loss");
});

test("the link is down while the other VM is not there, and comes back with it", async () => {
  // It listens to its power button, and switches itself off.
  await host.ok("stop", OTTO, "--wait", "--timeout", "170s");
  assert.is((await host.client.show(OTTO)).lastExit, "powered off");
  await waitCarrier(ANNA, "0");
  assert.is((await card(host, ANNA)).link, "down");
  await host.type(ANNA, `ping -c 1 -W 1 ${ADDRESS[OTTO]}; echo said $?`, "^said 1");
  await host.ok("start", OTTO);
  await host.waitUp(OTTO);
  await setAddress(host, OTTO);
  await waitCarrier(ANNA, "1");
  await host.type(ANNA, `ping -c 3 ${ADDRESS[OTTO]}`, "3 packets received, 0% packet loss");
});

test("a VM with a disk and a network costs less than 1 MiB beside its memory", async () => {
  const { overhead } = await host.client.show(OTTO);
  const bytes = overhead.kernelBytes + overhead.modelBytes;
  assert.ok(bytes > 0 && bytes <= 1 << 20, `${bytes} bytes`);
});

test("show tells it, and rm gives all memory back", async () => {
  assert.match(await host.ok("show", ANNA), /network +lan, [0-9a-f:]{17}, link up, sent \d+ frames/);
  for (const vm of [ANNA, OTTO]) await host.ok("rm", vm, "--force");
  assert.is(await host.free(), free);
});

test.run();
