// Streams between two stock Linux VMs while one of them is kept, goes back, and is copied: no byte is lost, doubled or
// wrong, and addresses are right.
// rigs: VT-x, AMD-V

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";
import { ADDRESS, ANNA, card, CLONE, createOnLan, OTTO, rebind, setAddress } from "./lan";

/** When a Linux has given up a connection for sure: one whose peer had no room, after two minutes; others after seconds. */
const GIVEN_UP_MS = 180_000;

let host: Host;
let free = 0;

async function create(vm: string): Promise<void> {
  await createOnLan(host, vm);
  // A peer that does not answer is given up after seconds instead of a quarter of an hour.
  await host.type(vm, "echo 4 >/proc/sys/net/ipv4/tcp_retries2; echo is s''et", "^is set");
}

/** What the newest flow of a VM has said. A clone's Linux has the name of its original. */
async function flow(vm: string): Promise<string[]> {
  const lines = [...(await host.scrollback(vm)).matchAll(/flow: \S+ (.*)$/gm)].map(([, line]) => line!);
  const newest = lines.slice(Math.max(0, lines.lastIndexOf("begins")));
  const bad = lines.filter((line) => line.startsWith("bad"));
  assert.equal(bad, [], `what came to ${vm}`);
  return newest;
}

/** Waits until the newest flow of a VM has said `count` lines that match. */
async function said(vm: string, what: RegExp, count = 1, limitMs = 60_000): Promise<void> {
  const end = Date.now() + limitMs;
  for (;;) {
    const lines = await flow(vm);
    if (lines.filter((line) => what.test(line)).length >= count) return;
    assert.ok(Date.now() < end, `${vm} has not said ${what} ${count} times:\n${lines.join("\n")}`);
  }
}

/** Waits until what comes to each VM has gone on. */
async function goesOn(...vms: string[]): Promise<void> {
  for (const vm of vms) {
    const at = (await flow(vm)).filter((line) => line.startsWith("at "));
    await said(vm, /^at /, at.length + 1);
  }
}

/** A stream each way on one connection, which has begun. */
async function begin(server: string, client: string): Promise<void> {
  const listens = "nc -l -p 7000 -e flow & until netstat -ltn | grep -q :7000; do :; done; echo list''ens";
  await host.type(server, listens, "^listens");
  await host.type(client, `nc ${ADDRESS[server]} 7000 -e flow & echo ca''lled`, "^called");
  await goesOn(server, client);
}

async function sayEnd(...vms: string[]): Promise<void> {
  for (const vm of vms) await host.type(vm, "touch /tmp/end; echo en''ds", "^ends");
}

async function endWhole(...vms: string[]): Promise<void> {
  await sayEnd(...vms);
  for (const vm of vms) await said(vm, /^whole$/);
}

/** What `vm` takes for the address of the other's card. */
async function knows(vm: string, other: string, mac: string): Promise<void> {
  await host.type(vm, `ping -c 2 ${ADDRESS[other]}`, "2 packets received, 0% packet loss");
  await host.type(vm, "sed s/^/arp:/ /proc/net/arp", `^arp:${ADDRESS[other]} .* ${mac} `);
}

test.before(async () => {
  host = await Host.boot("streams", join("build", "disk.iso"), 1, { memoryMiB: 768 });
  free = await host.free();
  await create(ANNA);
  await create(OTTO);
});
test.after(async () => host?.stop());

test("streams between VMs that are kept while they flow are whole", async () => {
  await begin(ANNA, OTTO);
  for (const vm of [ANNA, OTTO, ANNA]) {
    await host.ok("snapshot", "create", vm, "kept");
    await goesOn(ANNA, OTTO);
    await host.ok("snapshot", "rm", "kept");
  }
  await endWhole(ANNA, OTTO);
});

for (const vm of [ANNA, OTTO])
  test(`${vm} goes back: nothing wrong comes, and a new stream works at once`, async () => {
    await begin(ANNA, OTTO);
    const mac = (await card(host, vm)).mac!;
    await host.ok("snapshot", "create", vm, "back");
    await goesOn(ANNA, OTTO);
    await host.ok("snapshot", "restore", "back", "--force");
    assert.is((await card(host, vm)).mac, mac);
    await host.type(vm, "sed s/^/has:/ /sys/class/net/eth0/address", `^has:${mac}`);
    // The old streams go on where they were, or end.
    await sayEnd(ANNA, OTTO);
    for (const each of [ANNA, OTTO]) await said(each, /^over$/, 1, GIVEN_UP_MS);
    await knows(vm === ANNA ? OTTO : ANNA, vm, mac);
    await begin(ANNA, OTTO);
    await endWhole(ANNA, OTTO);
    await host.ok("snapshot", "rm", "back");
  });

test("a clone beside its original is not on the network, which goes on", async () => {
  await begin(ANNA, OTTO);
  await host.ok("snapshot", "create", ANNA, "warm");
  await host.ok("snapshot", "clone", "warm", CLONE, "--overcommit");
  assert.is((await card(host, CLONE)).link, "down");
  await goesOn(ANNA, OTTO);
  await endWhole(ANNA, OTTO);
  await host.ok("rm", CLONE, "--force");
});

test("a clone in its place has addresses of its own, and talks", async () => {
  const { mac } = await card(host, ANNA);
  await host.ok("rm", ANNA, "--force");
  await host.ok("snapshot", "clone", "warm", CLONE, "--overcommit");
  await host.type(CLONE, "killall nc flow seq awk; echo kil''led", "^killed");
  const own = (await card(host, CLONE)).mac;
  assert.is.not(own, mac);
  await rebind(host, CLONE);
  await setAddress(host, CLONE);
  await knows(OTTO, CLONE, own!);
  await begin(CLONE, OTTO);
  await endWhole(CLONE, OTTO);
});

test("nothing is left", async () => {
  for (const vm of [CLONE, OTTO]) await host.ok("rm", vm, "--force");
  await host.ok("snapshot", "rm", "warm");
  const gone = free - (await host.free());
  assert.ok(gone < 1 << 20, `${gone} bytes are not free again`);
  assert.is((await host.client.status()).controlRestarts, 0);
});

test.run();
