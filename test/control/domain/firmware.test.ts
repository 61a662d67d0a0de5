// VMs that start from firmware: what a specification may say, where the image is mapped, what the CPU shows.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CpuidRowAt, Hypercall, Right } from "../../../control/gen/abi";
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

function boot(size = SIZE): Rig {
  return new Rig({ spec: hostSpec([]), firmware: new Uint8Array(size).fill(3) });
}

function spec(more: Message = {}): Message {
  const { kernel: _kernel, initrd: _initrd, ...rest } = vmSpec("x", { firmware: "seabios", ...more });
  return { ...rest, ...more };
}

function refused(more: Message, size = SIZE): string {
  return String(boot(size).error("create", { spec: spec(more) })["message"]);
}

/** What the kernel is asked for when a VM is created. */
function created(vm: Message): { mappings: Mapping[]; leaf1: number } {
  const rig = boot();
  const real = rig.kernel.hypercall.bind(rig.kernel);
  const mappings: Mapping[] = [];
  let leaf1 = 0;
  rig.kernel.hypercall = (component, nr, args) => {
    const [, , gpa = 0n, , pages = 0n, access = 0n] = args;
    if (nr === Hypercall.MEM_MAP) mappings.push({ gpa, pages, access: Number(access) });
    if (nr === Hypercall.CPUID_SET) {
      const view = new DataView(component.comm.buffer, component.comm.byteOffset);
      for (let at = 0; at < Number(args[1]) * CpuidRowAt.SIZE; at += CpuidRowAt.SIZE)
        if (view.getUint32(at, true) === 1) leaf1 = view.getUint32(at + CpuidRowAt.edx, true);
    }
    return real(component, nr, args);
  };
  rig.ok("create", { spec: vm });
  return { mappings, leaf1 };
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
