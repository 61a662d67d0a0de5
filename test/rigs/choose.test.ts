// The choice of a rig: a wish that cannot be met names what is missing, and never falls back in silence.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkNesting, chooseRig, RIG_KINDS, rigsToTest } from "../../boot/rigs/choose";
import { qemuCommand } from "../../boot/rigs/emulator";
import { startRig } from "../../boot/rigs/rig";

test("auto picks something or says what is missing for each rig", () => {
  const choice = chooseRig("auto");
  assert.ok(choice.reason.length > 0);
  if (choice.kind === null) assert.match(choice.reason, "bochs");
});

/** A machine with such CPU flags and such files. */
function nesting(flags: string, files: Record<string, string> = {}, opens = true): true | string {
  const cpuinfo = `processor\t: 0\nvmx flags\t: vnmi\nflags\t\t: fpu ${flags} sse\n\nprocessor\t: 1\n`;
  const read = (path: string): string => (path === "/proc/cpuinfo" ? cpuinfo : (files[path] ?? ""));
  return checkNesting(read, (path) => {
    assert.is(path, "/dev/kvm");
    if (!opens) throw Object.assign(new Error(), { code: "EACCES" });
  });
}

test("KVM is offered only where it nests, and what is missing is named", () => {
  const intel = "/sys/module/kvm_intel/parameters/nested";
  const amd = "/sys/module/kvm_amd/parameters/nested";
  assert.match(String(nesting("vmxish")), /no VT-x and no AMD-V/);
  assert.match(String(nesting("vmx")), /kvm_intel is not loaded \(modprobe kvm_intel\)/);
  assert.match(String(nesting("svm", { [intel]: "Y" })), /kvm_amd is not loaded/);
  assert.match(
    String(nesting("vmx", { [intel]: "N\n" })),
    /nesting is off \(kvm_intel nested=1 turns it on\)/,
  );
  assert.match(String(nesting("svm", { [amd]: "0\n" })), /nesting is off \(kvm_amd/);
  assert.match(String(nesting("svm", { [amd]: "1\n" }, false)), /\/dev\/kvm does not open \(EACCES\)/);
  assert.is(nesting("vmx", { [intel]: "Y\n" }), true);
  assert.is(nesting("svm", { [amd]: "1\n" }), true);
});

test("with KVM the machine's CPU is the host's; without it one with AMD-V", () => {
  const config = { reason: "", iso: "x.iso", memoryMiB: 256, cpus: 2, runDir: "run", detached: false };
  const line = (kind: "qemu-kvm" | "qemu-tcg"): string =>
    qemuCommand({ ...config, kind, machine: {}, debugger: [] }, [1, 2]).args.join(" ");
  assert.match(line("qemu-kvm"), /-m 256 -smp 2 -accel kvm -cpu host /);
  assert.match(line("qemu-tcg"), /-m 256 -smp 2 -accel tcg -cpu EPYC /);
});

test("who takes the best is told in one line why not those before it", () => {
  const before = process.env.PLINTH_RIG;
  delete process.env.PLINTH_RIG;
  try {
    const { kind, reason } = chooseRig();
    assert.not.match(reason, "\n");
    for (const better of kind === null ? RIG_KINDS : RIG_KINDS.slice(0, RIG_KINDS.indexOf(kind)))
      assert.match(reason, `${better}: `);
  } finally {
    if (before !== undefined) process.env.PLINTH_RIG = before;
  }
});

test("an unknown rig is refused by name", () => {
  const choice = chooseRig("vax");
  assert.is(choice.kind, null);
  assert.match(choice.reason, "vax: there is no such rig; known are auto, qemu-kvm, qemu-tcg, bochs");
});

test("without programs in PATH no rig is offered", () => {
  const path = process.env.PATH;
  process.env.PATH = "/nonexistent";
  try {
    const choice = chooseRig("bochs");
    assert.is(choice.kind, null);
    assert.match(choice.reason, "package");
  } finally {
    process.env.PATH = path;
  }
});

test("PLINTH_RIG names the rig that auto stands for, and the only one to test on", () => {
  const before = process.env.PLINTH_RIG;
  process.env.PLINTH_RIG = "vax";
  try {
    assert.match(chooseRig().reason, /^vax: there is no such rig/);
    assert.equal(
      rigsToTest().map(({ choice }) => choice.reason),
      [chooseRig("vax").reason],
    );
  } finally {
    if (before === undefined) delete process.env.PLINTH_RIG;
    else process.env.PLINTH_RIG = before;
  }
});

test("Bochs is not asked to be a machine that it cannot be", async () => {
  const options = { iso: "package.json", rig: "bochs", machine: { board: "pc" } } as const;
  await startRig(options).then(
    () => assert.unreachable(),
    (error: Error) => assert.match(error.message, "bochs cannot be the machine asked for (board)"),
  );
});

test.run();
