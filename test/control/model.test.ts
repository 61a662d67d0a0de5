// The model of the kernel itself, with the component that tests runtimes.

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { ExitType, GPA_IMAGE, GPA_RAM, Reply, Right, Role, VcpuState } from "../../control/gen/abi";
import { KernelModel } from "./model/kernel-model";
import { Vcpu } from "./model/objects";

const echo = readFileSync("build/components/echo.wasm");

/** A VM whose device model is the echo component, without a control domain. */
function start(): { kernel: KernelModel; model: import("./model/objects").Domain } {
  const kernel = new KernelModel();
  const model = kernel.addDomain(Role.DEVICE_MODEL, "vm", 64, 64);
  const vm = kernel.addDomain(Role.VM, "vm", 64, 64);
  model.map(GPA_IMAGE, kernel.addMemory(16, echo), 0, 16, Right.READ | Right.EXECUTE);
  model.map(GPA_RAM, kernel.addMemory(160), 0, 160, Right.READ | Right.WRITE);
  const vcpu = new Vcpu(kernel.nextId(), vm, 0, model);
  vcpu.state = VcpuState.READY;
  vm.vcpus.push(vcpu);
  kernel.startComponent(model);
  return { kernel, model };
}

test("init runs and logs", () => {
  assert.is(start().kernel.log, "vm: hello true\n");
});

test("exits are answered through the exit page", () => {
  const { kernel, model } = start();
  model.map(0x8000000, kernel.domain("vm", Role.VM).vcpus[0]!.exitPage, 0, 1, 3);
  const vm = kernel.vm("vm");
  assert.is(vm.portIn(0x60), 0x9f);
  assert.is(vm.portOut(0x60, 1)!.reply, Reply.ADVANCE);
  const gpr = Array.from({ length: 16 }, (_, n) => BigInt(n));
  const answer = vm.exit({ type: ExitType.MMIO, gpa: 0x1000, length: 3, gpr });
  assert.is(answer.gprs, 8);
  assert.is(answer.gpr[3], 0x100fn);
});

test("a trap ends the component and orphans its VM", () => {
  const { kernel, model } = start();
  kernel.raise(model, 17);
  kernel.run();
  assert.match(kernel.traps[0]!.text, "asked for @ test/control/components/echo.ts:");
  assert.throws(() => kernel.vm("vm").portIn(1), /does not run/);
});

for (const [event, text] of [
  [18, /out of bounds/],
  [20, /divide by zero/],
  [21, /stack/],
  [22, /unreachable/],
  [23, /out of memory|unreachable/],
  [24, /guest-physical address 0x1000/],
  [27, /port 0x71/],
] as const) {
  test(`trap ${event}`, () => {
    const { kernel, model } = start();
    kernel.raise(model, event);
    kernel.run();
    assert.match(kernel.traps[0]!.text, text);
  });
}

test.run();
