// VMs that start from firmware: what a specification may say, where the image is mapped, what the CPU shows.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CAP_VM, CpuidRowAt, Hypercall, Right } from "../../../control/gen/abi";
import { GPA_GUEST } from "../../../control/gen/abi64-node";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, Rig, vmSpec } from "./rig";

const SIZE = 256 * 1024;
const MTRR = 1 << 12;

interface Mapping {
  gpa: bigint;
  pages: bigint;
  access: number;
}

function boot(firmware: Uint8Array = new Uint8Array(SIZE).fill(3)): Rig {
  return new Rig({ spec: hostSpec([]), firmware });
}

/** An image that begins with a volume of this many bytes for variables. */
function withVariables(bytes: number): Buffer {
  const image = Buffer.alloc(SIZE, 3);
  image.write("8d2bf1ff96768b4ca9852747075b4f50", 16, "hex");
  image.writeBigUInt64LE(BigInt(bytes), 32);
  image.write("_FVH", 40);
  return image;
}

function spec(more: Message = {}): Message {
  const { kernel: _kernel, initrd: _initrd, ...rest } = vmSpec("x", { firmware: "seabios", ...more });
  return { ...rest, ...more };
}

function refused(more: Message, size = SIZE): string {
  return String(boot(new Uint8Array(size)).error("create", { spec: spec(more) })["message"]);
}

/** What the kernel is asked for when a VM is created. */
function created(vm: Message, image?: Buffer): { mappings: Mapping[]; leaf1: number; vmRights: number } {
  const rig = boot(image);
  const real = rig.kernel.hypercall.bind(rig.kernel);
  const mappings: Mapping[] = [];
  let leaf1 = 0;
  let vmRights = 0;
  rig.kernel.hypercall = (component, nr, args) => {
    const [, , gpa = 0n, , pages = 0n, access = 0n] = args;
    if (nr === Hypercall.MEM_MAP) mappings.push({ gpa, pages, access: Number(access) });
    if (nr === Hypercall.CAP_GRANT && args[1] === BigInt(CAP_VM)) vmRights = Number(args[3]);
    if (nr === Hypercall.CPUID_SET) {
      const view = new DataView(component.comm.buffer, component.comm.byteOffset);
      for (let at = 0; at < Number(args[1]) * CpuidRowAt.SIZE; at += CpuidRowAt.SIZE)
        if (view.getUint32(at, true) === 1) leaf1 = view.getUint32(at + CpuidRowAt.edx, true);
    }
    return real(component, nr, args);
  };
  rig.ok("create", { spec: vm });
  return { mappings, leaf1, vmRights };
}

test("firmware ends at 4 GiB, read and executed by the VM and read by its device model", () => {
  const { mappings } = created(spec({ boot: "firmware" }));
  const at = 0x100000000n - BigInt(SIZE);
  const pages = BigInt(SIZE / 4096);
  assert.equal(
    mappings.filter((mapping) => mapping.gpa === at || mapping.gpa === at + BigInt(GPA_GUEST)),
    [
      { gpa: at + BigInt(GPA_GUEST), pages, access: Right.READ },
      { gpa: at, pages, access: Right.READ | Right.EXECUTE },
    ],
  );
});

test("what the image has for variables is flash memory, which the device model maps for the VM", () => {
  const { mappings, vmRights } = created(spec(), withVariables(5 * 4096));
  const at = 0x100000000n - BigInt(SIZE);
  const model = at + BigInt(GPA_GUEST);
  const [pages, rest] = [5n, BigInt(SIZE / 4096 - 5)];
  assert.equal(
    mappings.filter(({ gpa }) => (gpa >= at && gpa < 0x100000000n) || gpa >= model),
    [
      { gpa: model + 5n * 4096n, pages: rest, access: Right.READ },
      { gpa: at + 5n * 4096n, pages: rest, access: Right.READ | Right.EXECUTE },
      { gpa: model, pages, access: Right.READ | Right.WRITE },
    ],
  );
  assert.is(vmRights, Right.READ | Right.WRITE | Right.INTERRUPT);
  assert.is(created(spec()).vmRights, Right.READ | Right.INTERRUPT);
});

test("flash memory lives from the first start to rm, over stops, resets and a restart", () => {
  const rig = boot(withVariables(5 * 4096));
  const free = rig.kernel.freePages;
  rig.ok("create", { spec: spec() });
  const before = rig.kernel.freePages;
  rig.ok("reset", { vm: "x" });
  assert.is(rig.state("x"), "running");
  assert.is(rig.kernel.freePages, before);
  const overhead = rig.ok("show", { vm: "x" })["overhead"] as Record<string, number>;
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.ok("status")["controlRestarts"], 1);
  rig.ok("stop", { vm: "x", force: true });
  assert.is(free - rig.kernel.freePages, 22 + 5); // the link and the flash memory
  rig.ok("start", { vm: "x" });
  assert.is(rig.state("x"), "running");
  rig.ok("rm", { vm: "x", force: true });
  assert.is(rig.kernel.freePages, free);
  const plain = boot();
  plain.ok("create", { spec: spec() });
  const cost = plain.ok("show", { vm: "x" })["overhead"] as Record<string, number>;
  assert.is(overhead["modelBytes"]! - cost["modelBytes"]!, 5 * 4096);
});

test("a volume that cannot be is none, and its image is only read", () => {
  for (const bytes of [0, 1, 4097, SIZE, SIZE / 2 + 4096, 2 ** 53, -4096 + 2 ** 53])
    assert.is(created(spec(), withVariables(bytes)).vmRights & Right.WRITE, 0, String(bytes));
});

test("the CPU shows MTRRs to firmware only", () => {
  assert.is(created(spec()).leaf1 & MTRR, MTRR);
  assert.is(created(vmSpec("x")).leaf1 & MTRR, 0);
});

test("a specification with firmware comes back as it was, and rm gives everything back", () => {
  const rig = boot();
  const free = rig.kernel.freePages;
  rig.ok("create", { spec: spec() });
  const back = rig.ok("show", { vm: "x" })["spec"] as Record<string, unknown>;
  assert.is(back["firmware"], "seabios");
  rig.ok("reset", { vm: "x" });
  assert.is(rig.state("x"), "running");
  rig.ok("rm", { vm: "x", force: true });
  assert.is(rig.kernel.freePages, free);
});

test("a restarted control domain knows the firmware", () => {
  const rig = new Rig({ spec: hostSpec([spec()]), firmware: new Uint8Array(SIZE).fill(3) });
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is((rig.ok("show", { vm: "x" })["spec"] as Record<string, unknown>)["firmware"], "seabios");
});

test("what is wrong is named", () => {
  assert.match(refused({ kernel: "linux" }), "a kernel and firmware");
  assert.match(refused({ firmware: "" }), "neither a kernel nor firmware");
  assert.match(refused({ firmware: "", kernel: "linux", boot: "firmware" }), "boot is firmware");
  assert.match(refused({ boot: "pvh" }), 'it has firmware, and boot is "pvh"');
  assert.match(refused({ firmware: "bios" }), 'there is no image "bios"');
  assert.match(refused({ firmware: "linux" }), 'image "linux" is no firmware');
  assert.match(refused({}, 17 << 20), "is no firmware");
});

test.run();
