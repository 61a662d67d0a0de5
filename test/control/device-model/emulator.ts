// The emulator of MMIO instructions in front of a piece of MMIO that behaves like memory.

import { ACCESS_READ, ExitMessageAt, ExitType } from "../../../control/gen/abi";
import { type Answer, type Options, Rig } from "./rig";

/** Where the piece is: in the hole below 4 GiB, and in no device's way. */
export const SCRATCH = 0xe8000000;
export const SCRATCH_SIZE = 0x4000;
export const CODE = 0x100000;

export type Mode = 16 | 32 | 64;

const CS_ACCESS = { 16: 0x009b, 32: 0xc09b, 64: 0xa09b };
/** Bits of `gprs` in an answer that stand for registers. */
export const ALL_GPRS = 0xffff;

export interface Request {
  mode?: Mode;
  /** Registers by number; the others are 0. */
  gpr?: Record<number, bigint>;
  rflags?: bigint;
  /** The address that the exit tells; SCRATCH + 0x40 if it is not given. */
  gpa?: number | bigint;
  access?: number;
  rip?: bigint;
  /** More fields of the exit message. */
  fields?: [number, number | bigint][];
}

interface Exports {
  scratch(gpa: bigint): number;
  readCount(): number;
  writeCount(): number;
}

export class Emulator {
  readonly rig: Rig;
  private readonly at: number;
  private readonly exports: Exports;

  constructor(options: Options = {}) {
    this.rig = new Rig({ wasm: "build/components/emulator.wasm", ...options });
    this.exports = this.rig.wasm as unknown as Exports;
    this.at = this.exports.scratch(BigInt(SCRATCH));
  }

  /** The bytes of the piece. */
  get cells(): Buffer {
    return this.rig.linear().subarray(this.at, this.at + SCRATCH_SIZE);
  }

  /** How often the piece was read and written. */
  get accesses(): [number, number] {
    return [this.exports.readCount(), this.exports.writeCount()];
  }

  /** An exit by the instruction `bytes`, which is put at CODE; paging is off unless fields say otherwise. */
  run(bytes: Iterable<number>, request: Request = {}): Answer {
    const { mode = 64, gpr = {}, rflags = 2n, gpa = SCRATCH + 0x40, access = ACCESS_READ } = request;
    this.rig.memory.fill(0x90, CODE, CODE + 32);
    this.rig.memory.set([...bytes], CODE);
    return this.rig.message(ExitType.MMIO, [
      [ExitMessageAt.gpa, BigInt(gpa)],
      [ExitMessageAt.linear, BigInt(gpa)],
      [ExitMessageAt.access, access],
      [ExitMessageAt.cs_access, CS_ACCESS[mode]],
      [ExitMessageAt.cr0, 1n],
      [ExitMessageAt.efer, mode === 64 ? 0x500n : 0n],
      [ExitMessageAt.rip, request.rip ?? BigInt(CODE)],
      [ExitMessageAt.rflags, rflags],
      ...Object.entries(gpr).map(([n, value]): [number, bigint] => [
        ExitMessageAt.gpr + 8 * Number(n),
        value,
      ]),
      ...(request.fields ?? []),
    ]);
  }

  gpr(register: number): bigint {
    return this.rig.exitMessage().readBigUInt64LE(ExitMessageAt.gpr + 8 * register);
  }

  /** The status flags after an instruction. */
  get flags(): bigint {
    return this.rig.exitMessage().readBigUInt64LE(ExitMessageAt.rflags) & 0x8d5n;
  }
}
