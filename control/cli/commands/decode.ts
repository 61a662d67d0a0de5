// `plinth decode`: a captured panic with names instead of addresses.

import { existsSync, readFileSync } from "node:fs";
import type { Command } from "../command";
import { decodePanic, type Place } from "../decode";
import { ErrorCode, PlinthError } from "../errors";

/** The image is linked for each backend. */
const KERNELS = ["build/kernel.elf", "build/kernel-svm.elf"];

export const decode: Command = {
  name: "decode",
  operands: "FILE",
  options: [
    {
      name: "kernel",
      value: "FILE",
      choices: ["file"],
      summary: "the kernel that panicked, with symbols; else one of build/ that has its build id",
    },
  ],
  summary: "name functions and source lines in a panic captured from the serial line; -: standard input",
  run: async (context) => {
    const file = context.args.operands[0]!;
    const given = context.args.value("kernel");
    const kernels = given === undefined ? KERNELS.filter((kernel) => existsSync(kernel)) : [given];
    for (const kernel of kernels.length > 0 ? kernels : KERNELS)
      if (!existsSync(kernel)) throw noFile(kernel, "make, or --kernel FILE");
    if (file !== "-" && !existsSync(file)) throw noFile(file, "plinth help decode");
    const panic = await decodePanic(readFileSync(file === "-" ? 0 : file, "latin1"), file, kernels);
    if (context.out.json) return context.out.object(panic);
    for (const { text, place } of panic.lines) context.out.line(place ? text + named(place) : text);
  },
};

function noFile(file: string, next: string): PlinthError {
  return new PlinthError({
    code: ErrorCode.NOT_FOUND,
    message: `there is no file ${file}`,
    object: file,
    next,
  });
}

function named(place: Place): string {
  return place.frames
    .map((frame, n) => `${n === 0 ? "  " : "\n      inlined into "}${frame.function}  ${frame.source}`)
    .join("");
}
