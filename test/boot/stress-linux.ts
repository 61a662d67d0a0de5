// Stock Linux under stress (stress/stress.c): page-table changes with TLB shoot-downs, forks, messages between the
// CPUs, timers, a disk, all at once. Its data are right afterwards, and every counter adds up, its own and the host's.

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceRow, VmDetails } from "../../control/cli/client";
import { Host } from "./host";

export const STRESS_ISO = join("build", "stress.iso");
export const LIMIT = "600s";

/** What a CPU does in a round of stress/stress.c, which has the same names. */
const REMAPS = 8;
const PAGES = 4;
const PINGS = 4;
/** Blocks that a CPU writes before the rounds; in each it writes one and reads two. */
const BLOCKS = 32;

/** Creates and starts stock Linux with a disk for the stress, and waits for its user space. */
export async function createStressed(host: Host, vm: string, vcpus: number): Promise<void> {
  const cmdline = `console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=${vm}`;
  const images = ["--memory", "128M", "--kernel", "linux", "--initrd", "initrd", "--disk", "disk"];
  await host.ok("create", vm, ...images, "--cmdline", cmdline, "--vcpus", String(vcpus), "--start");
  await host.waitUp(vm);
}

function disk(details: VmDetails): DeviceRow {
  const found = details.devices?.find((row) => row.device === "block");
  assert.ok(found, "the VM has a disk");
  return found!;
}

/** What holds of a VM's counters at any time. */
function addsUp(details: VmDetails): void {
  const sum = Object.values(details.counters).reduce((total, one) => total + one, 0);
  assert.is(sum, details.exits, "all exits are of some kind");
  assert.ok(details.forwarded <= details.exits, "what the device model answered was an exit");
}

/** What the guest says of itself at the end; all of it must be right. */
class StressReport {
  constructor(private readonly output: string) {}

  numbers(pattern: string): number[] {
    const found = new RegExp(pattern.replace(/#/g, "(\\d+)")).exec(this.output);
    assert.ok(found, `no "${pattern}" in:\n${this.output}`);
    return found!.slice(1).map(Number);
  }

  /** Checks what does not depend on the host; returns the disk's reads and writes. */
  check(vcpus: number, rounds: number): { reads: number; writes: number } {
    const [remaps, looks, stale, forks, badForks] = this.numbers("remaps # looks # stale # forks # bad #");
    const [sent, answered, barriers] = this.numbers("sent # answered # barriers #");
    const [naps, early, backward, fired, due] = this.numbers("naps # early # backward # timers # of #");
    const [reads, writes, badBlocks, failed] = this.numbers("reads # writes # bad # failed #");

    const cpuRounds = vcpus * rounds;
    assert.is(remaps, cpuRounds * REMAPS + vcpus, "page-table changes");
    assert.is(looks, cpuRounds * REMAPS * vcpus * PAGES, "looks at the changed pages");
    assert.is(stale, 0, "stale translations");
    assert.is(forks, cpuRounds / 2, "forks");
    assert.is(badForks, 0, "children or parents whose memory was wrong");
    assert.is(sent, cpuRounds * PINGS, "messages");
    assert.is(answered, sent, "messages answered");
    assert.is(barriers, cpuRounds, "barriers");
    assert.is(naps, cpuRounds, "naps");
    assert.equal({ early, backward }, { early: 0, backward: 0 }, "timers and clocks");
    // QEMU's own timer may be late when its machine is busy: only Bochs's time stands still meanwhile.
    const exact = process.env.PLINTH_RIG === "bochs";
    assert.ok(exact ? fired === due : fired! > 0 && fired! <= due!, `periodic timers: ${fired} of ${due}`);
    assert.is(reads, cpuRounds * 2, "blocks read");
    assert.is(writes, cpuRounds + vcpus * BLOCKS, "blocks written");
    assert.equal({ badBlocks, failed }, { badBlocks: 0, failed: 0 }, "the disk's data");
    return { reads: reads!, writes: writes! };
  }
}

/** The report of a stress that is done. */
export async function stressReport(host: Host, vm: string): Promise<StressReport> {
  return new StressReport((await host.scrollback(vm)).split("stress: ready").at(-1)!);
}

/** Runs the stress in a VM of `vcpus` CPUs, on which it is the disk's only user. */
export async function stressLinux(host: Host, vm: string, vcpus: number, rounds: number): Promise<void> {
  const say = (text: string, answer: string): Promise<string> =>
    host.ok("console", vm, "--send", `${text}\\n`, "--expect", answer, "--timeout", LIMIT);
  const read = async (): Promise<VmDetails> => {
    const details = await host.client.show(vm);
    addsUp(details);
    return details;
  };
  // The guest's interrupts are counted between two looks of ours, and between those two there are two of its own.
  const first = await read();
  await say(`stress ${rounds} /dev/vda`, "^stress: ready, interrupts \\d+");
  const second = await read();
  await say("", "^stress: finished, rounds \\d+");
  const third = await read();
  await say("", "^stress: done");
  const last = await read();

  const report = await stressReport(host, vm);
  const { reads, writes } = report.check(vcpus, rounds);
  const [began, ended] = report.numbers(", interrupts #[^]*stress: interrupts #") as [number, number];

  for (const kind of ["LOC", "CAL", "TLB", "-req."]) {
    assert.ok(report.numbers(`stress: ${kind}:? #`)[0]! > 0, `${kind} in /proc/interrupts`);
  }
  const before = disk(first);
  const after = disk(last);
  assert.is(after.requests - before.requests, reads + writes, "the disk's requests, here and there");
  const told = report.numbers("stress: -req. #")[0]!;
  const given = after.interrupts - before.interrupts;
  assert.ok(told <= given && given <= reads + writes, `the disk's interrupts: ${told} seen, ${given} given`);
  const outer = last.interrupts - first.interrupts;
  const inner = third.interrupts - second.interrupts;
  const seen = ended - began;
  assert.ok(
    inner <= seen && seen <= outer,
    `interrupts: ${seen} seen, given ${inner} inside, ${outer} around`,
  );
}

/** The stress on a host of its own. */
export function stressLinuxSuite(hostCpus: number, vcpus: number, rounds: number): void {
  const test = suite<{ host: Host }>(`Linux: ${vcpus} vCPUs on ${hostCpus} CPUs`);
  test.before(async (context) => {
    context.host = await Host.boot(`stress-linux-${hostCpus}`, STRESS_ISO, hostCpus);
  });
  test.after(async (context) => context.host?.stop());
  test("its data are right, and every counter adds up", async ({ host }) => {
    await createStressed(host, "linux", vcpus);
    await stressLinux(host, "linux", vcpus, rounds);
  });
  test.run();
}
