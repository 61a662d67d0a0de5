// A VM of the model, seen from a test: no code runs in it; the test plays its vCPU and makes exits.

import {
  ACCESS_READ,
  ACCESS_WRITE,
  DomainState,
  ExitMessageAt as At,
  ExitType,
  Reply,
  VcpuRegistersAt,
  VcpuState,
} from "../../../control/gen/abi";
import { DOORBELL_ANY } from "../../../control/gen/abi64-node";
import type { KernelModel } from "./kernel-model";
import type { Interrupt, Vcpu } from "./objects";

/** Fields of an exit message; GPRs in hardware order. */
export interface Exit {
  type: ExitType;
  length?: number;
  port?: number;
  size?: number;
  value?: bigint;
  gpa?: number;
  linear?: bigint;
  access?: number;
  csAccess?: number;
  csBase?: bigint;
  rip?: bigint;
  rflags?: bigint;
  cr0?: bigint;
  cr3?: bigint;
  cr4?: bigint;
  efer?: bigint;
  gpr?: bigint[];
}

export interface Answer {
  reply: Reply;
  length: number;
  value: bigint;
  gprs: number;
  gpr: bigint[];
  rflags: bigint;
  vector: number;
  error: number;
  cr2: bigint;
}

const CODE_64 = 0xa09b;

export class VmModel {
  constructor(
    private readonly kernel: KernelModel,
    readonly vcpu: Vcpu,
  ) {}

  /** Interrupts delivered since the last call. */
  takeInterrupts(): Interrupt[] {
    return this.vcpu.domain.interrupts.splice(0);
  }

  get running(): boolean {
    return this.vcpu.domain.state === DomainState.ACTIVE && this.vcpu.state === VcpuState.READY;
  }

  read(gpa: number, length: number): Buffer {
    return Buffer.from(this.vcpu.domain.space.read(gpa, length));
  }

  write(gpa: number, bytes: Uint8Array): void {
    this.vcpu.domain.space.write(gpa, bytes);
  }

  /** A u64 of the vCPU's state as it was set before the start. */
  register(at: VcpuRegistersAt): bigint {
    return new DataView(this.vcpu.registers.buffer, this.vcpu.registers.byteOffset).getBigUint64(at, true);
  }

  /** Makes an exit and lets components run until the device model has answered it. */
  exit(exit: Exit): Answer {
    const { vcpu } = this;
    if (!this.running)
      throw new Error(
        `VM "${vcpu.domain.label}" does not run: vCPU state ${vcpu.state}, domain state ${vcpu.domain.state}`,
      );
    vcpu.exits++;
    vcpu.exitPage.write(0, encode(exit));
    vcpu.state = VcpuState.EXITED;
    this.kernel.raise(vcpu.model!, vcpu.index);
    this.kernel.run();
    const state: VcpuState = vcpu.state;
    if (state === VcpuState.EXITED)
      throw new Error(`the device model has not answered: ${this.kernel.traps.at(-1)?.text ?? ""}`);
    const answer = decode(vcpu.exitPage.read(0, At.SIZE));
    if (answer.reply === Reply.STOP) vcpu.state = VcpuState.STOPPED;
    return answer;
  }

  portIn(port: number, size = 1): number {
    const answer = this.exit({ type: ExitType.PORT_IN, port, size, length: 1 });
    return Number(answer.value & ((1n << BigInt(size * 8)) - 1n));
  }

  portOut(port: number, value: number, size = 1): Answer | undefined {
    const bell = this.vcpu.domain.doorbells.find(
      (b) => b.port === port && (b.value === DOORBELL_ANY || b.value === BigInt(value >>> 0)),
    );
    if (bell) {
      this.kernel.raise(bell.domain, bell.event);
      this.kernel.run();
      return undefined;
    }
    return this.exit({ type: ExitType.PORT_OUT, port, size, value: BigInt(value >>> 0), length: 1 });
  }

  /**
   * An instruction that touches MMIO at `gpa`: its bytes are put at `codeAt` of the VM's memory, and
   * paging is off (CR0.PG = 0), so that linear addresses are guest-physical. 64-bit code segment.
   */
  mmio(gpa: number, instruction: number[], gpr: bigint[] = [], write = false, codeAt = 0x8000): Answer {
    this.write(codeAt, Uint8Array.from(instruction));
    return this.exit({
      type: ExitType.MMIO,
      gpa,
      linear: BigInt(gpa),
      access: write ? ACCESS_WRITE : ACCESS_READ,
      rip: BigInt(codeAt),
      rflags: 2n,
      csAccess: CODE_64,
      cr0: 0x11n,
      efer: 0x500n,
      gpr,
    });
  }
}

function encode(exit: Exit): Uint8Array {
  const bytes = new Uint8Array(At.reply);
  const view = new DataView(bytes.buffer);
  view.setUint32(At.type, exit.type, true);
  view.setUint32(At.length, exit.length ?? 0, true);
  view.setUint32(At.port, exit.port ?? 0, true);
  view.setUint32(At.size, exit.size ?? 0, true);
  view.setBigUint64(At.value, exit.value ?? 0n, true);
  view.setBigUint64(At.gpa, BigInt(exit.gpa ?? 0), true);
  view.setBigUint64(At.linear, exit.linear ?? 0n, true);
  view.setUint32(At.access, exit.access ?? 0, true);
  view.setUint32(At.cs_access, exit.csAccess ?? 0, true);
  view.setBigUint64(At.cs_base, exit.csBase ?? 0n, true);
  view.setBigUint64(At.rip, exit.rip ?? 0n, true);
  view.setBigUint64(At.rflags, exit.rflags ?? 2n, true);
  view.setBigUint64(At.cr0, exit.cr0 ?? 0n, true);
  view.setBigUint64(At.cr3, exit.cr3 ?? 0n, true);
  view.setBigUint64(At.cr4, exit.cr4 ?? 0n, true);
  view.setBigUint64(At.efer, exit.efer ?? 0n, true);
  (exit.gpr ?? []).forEach((value, n) => view.setBigUint64(At.gpr + n * 8, value, true));
  return bytes;
}

function decode(bytes: Uint8Array): Answer {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return {
    reply: view.getUint32(At.reply, true) as Reply,
    length: view.getUint32(At.reply_length, true),
    value: view.getBigUint64(At.reply_value, true),
    gprs: view.getUint32(At.reply_gprs, true),
    gpr: Array.from({ length: 16 }, (_, n) => view.getBigUint64(At.gpr + n * 8, true)),
    rflags: view.getBigUint64(At.rflags, true),
    vector: view.getUint32(At.reply_vector, true),
    error: view.getUint32(At.reply_error, true),
    cr2: view.getBigUint64(At.reply_cr2, true),
  };
}
