// Copies of memory and saved states in the model of the kernel.

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";

import {
  CAP_ROOT,
  DomainSnapshotAt,
  GPA_IMAGE,
  GPA_RAM,
  Hypercall,
  PAGE_SIZE,
  Right,
  Role,
  Status,
  VcpuPart,
  VcpuSnapshotAt,
} from "../../control/gen/abi";
import type { Component } from "./model/component";
import { KernelModel } from "./model/kernel-model";
import { VmModel } from "./model/vm-model";
import { RootObject, type Domain } from "./model/objects";

const echo = readFileSync("build/components/echo.wasm");

/** A kernel and a domain that holds the root capability, whose calls the test makes. */
class Caller {
  readonly kernel = new KernelModel();
  readonly domain: Domain;
  readonly comm = new Uint8Array(PAGE_SIZE);

  constructor() {
    this.domain = this.kernel.addDomain(Role.CONTROL, "control", 8, 256);
    this.domain.put(CAP_ROOT, new RootObject());
  }

  call(nr: Hypercall, ...args: number[]): number {
    return Number(this.kernel.hypercall(this as unknown as Component, nr, args.map(BigInt)));
  }

  memory(slot: number): import("./model/memory").MemoryObject {
    return this.domain.object(slot, "memory");
  }

  /** The ranges in which two memory objects differ. */
  diff(slot: number, base: number): bigint[] {
    const count = this.call(Hypercall.MEM_DIFF, slot, base, 0);
    return Array.from(new BigUint64Array(this.comm.slice(16, 16 + 16 * count).buffer));
  }
}

test("a clone shares pages until one of both writes", () => {
  const caller = new Caller();
  caller.call(Hypercall.MEM_CREATE, 50, 100);
  caller.memory(50).write(5 * PAGE_SIZE, Uint8Array.of(7));
  const free = caller.kernel.freePages;
  assert.is(caller.call(Hypercall.MEM_CLONE, 51, 50), 0);
  assert.is(caller.kernel.freePages, free);
  assert.equal(caller.diff(51, 50), []);
  caller.memory(51).write(5 * PAGE_SIZE, Uint8Array.of(8));
  caller.memory(50).write(9 * PAGE_SIZE, Uint8Array.of(8));
  assert.is(caller.kernel.freePages, free - 2);
  assert.is(caller.memory(50).read(5 * PAGE_SIZE, 1)[0], 7);
  assert.is(caller.memory(51).read(9 * PAGE_SIZE, 1)[0], 0);
  assert.equal(caller.diff(51, 50), [5n, 1n, 9n, 1n]);
  assert.equal(caller.diff(51, 0), [0n, 100n]);
  assert.is(caller.call(Hypercall.CAP_DROP, 50), 0);
  assert.is(caller.kernel.freePages, free);
  assert.is(caller.call(Hypercall.CAP_DROP, 51), 0);
  assert.is(caller.kernel.freePages, free + 100);
});

test("a clone goes with its payer, and is refused where it has no place", () => {
  const caller = new Caller();
  caller.call(Hypercall.DOMAIN_CREATE, 60, Role.VM, 8, 16, 0);
  caller.call(Hypercall.MEM_CREATE, 50, 10);
  assert.is(caller.call(Hypercall.MEM_CLONE, 51, 50, 60, 4), 0);
  assert.is(caller.call(Hypercall.MEM_CLONE, 52, 50, 60, 4), -Status.IN_USE);
  assert.is(caller.call(Hypercall.MEM_CLONE, 51, 50), -Status.IN_USE);
  assert.is(caller.call(Hypercall.MEM_CLONE, 52, 49), -Status.BAD_CAP);
  caller.call(Hypercall.DOMAIN_DESTROY, 60);
  assert.is(caller.call(Hypercall.CAP_INFO, 51), -Status.BAD_CAP);
});

test("promises hold frames back", () => {
  const caller = new Caller();
  caller.call(Hypercall.MEM_CREATE, 50, 100);
  caller.call(Hypercall.MEM_CLONE, 51, 50);
  assert.is(caller.call(Hypercall.MEM_PROMISE, 51, 101), -Status.BAD_ARGUMENT);
  assert.is(caller.call(Hypercall.MEM_PROMISE, 51, 100), 0);
  assert.is(caller.call(Hypercall.MEM_CREATE, 52, caller.kernel.freePages), -Status.NO_MEMORY);
  assert.is(caller.call(Hypercall.MEM_CREATE, 52, caller.kernel.freePages - 100), 0);
  caller.memory(51).write(0, Uint8Array.of(1));
  assert.is(caller.kernel.promisedPages, 99);
});

test("a component goes on in a copy of its memory, its variables and its time", () => {
  const caller = new Caller();
  const { kernel } = caller;
  caller.kernel.addMemory(16, echo);
  const make = (at: number, ram: () => void): Domain => {
    caller.call(Hypercall.DOMAIN_CREATE, at, Role.DEVICE_MODEL, 8, 80, 0);
    caller.call(Hypercall.DOMAIN_CREATE, at + 1, Role.VM, 8, 16, 0);
    const model = caller.domain.object(at, "domain");
    model.map(GPA_IMAGE, kernel.addMemory(16, echo), 0, 16, Right.READ | Right.EXECUTE);
    ram();
    caller.call(Hypercall.MEM_MAP, at, at + 2, GPA_RAM, 0, 160, Right.READ | Right.WRITE);
    caller.call(Hypercall.VCPU_CREATE, at + 3, at, 0, 0);
    caller.call(Hypercall.VCPU_CREATE, at + 4, at + 1, 0, at);
    return model;
  };
  make(50, () => caller.call(Hypercall.MEM_CREATE, 52, 160));
  caller.call(Hypercall.VCPU_START, 53);
  caller.call(Hypercall.VCPU_START, 54);
  assert.is(caller.call(Hypercall.DOMAIN_SAVE, 50), -Status.BAD_STATE);
  assert.is(caller.call(Hypercall.DOMAIN_PAUSE, 51, 1), 0);
  const copy = make(60, () => caller.call(Hypercall.MEM_CLONE, 62, 52));
  assert.is(caller.call(Hypercall.DOMAIN_PAUSE, 61, 1), 0);
  for (const [from, to, vcpu] of [
    [50, 60, 3],
    [51, 61, 3],
  ] as const) {
    const rows = caller.call(Hypercall.DOMAIN_SAVE, from);
    assert.ok(rows >= 0);
    const tsc = new DataView(caller.comm.buffer).getBigUint64(DomainSnapshotAt.tsc, true);
    assert.ok(tsc > 0n);
    assert.is(
      caller.call(Hypercall.VCPU_LOAD, to + vcpu, VcpuPart.REGISTERS, VcpuSnapshotAt.SIZE),
      -Status.BAD_STATE,
    );
    assert.is(caller.call(Hypercall.DOMAIN_LOAD, to, rows), 0);
    for (let part = 0; part < VcpuPart.COUNT; part++) {
      const length = caller.call(Hypercall.VCPU_SAVE, from + vcpu, part);
      if (length > 0) assert.is(caller.call(Hypercall.VCPU_LOAD, to + vcpu, part, length), 0);
    }
  }
  assert.is(kernel.log.match(/hello/g)!.length, 1);
  assert.is(caller.call(Hypercall.DOMAIN_RESUME, 61), 0);
  assert.is(caller.call(Hypercall.DOMAIN_RESUME, 51), 0);
  const vm = new VmModel(kernel, caller.domain.object(64, "vcpu"));
  assert.is(vm.portIn(0x60), 0x9f);
  assert.ok(copy.component);
  assert.equal(kernel.traps, []);
});

test.run();
