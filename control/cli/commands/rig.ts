// `plinth rig`: starts, ends and shows the emulator that plays the server on this machine.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  REFUSAL,
  RIG_KINDS,
  rigStatus,
  startRig,
  stopRig,
  type Rig,
  type RigKind,
  type RigStatus,
} from "../../../boot/rigs/rig";
import { connect } from "../client";
import type { Option } from "../arguments";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError, unreachable, usageError } from "../errors";
import { oneLine } from "../output";
import { defaultSocket } from "../transport";
import { formatTime, parseNumber, parseSize } from "../values";
import { Progress } from "../progress";

const RIGS: readonly string[] = ["auto", ...RIG_KINDS];
const MIB = 2 ** 20;
const RUN_DIR: Option = {
  name: "run-dir",
  value: "DIR",
  choices: ["file"],
  summary: "where its sockets and logs are (build/run)",
};

export const rigUp: Command = {
  name: "rig up",
  operands: "",
  options: [
    { name: "iso", value: "FILE", choices: ["file"], summary: "boot image (build/plinth.iso)" },
    { name: "memory", value: "SIZE", summary: "memory of the machine (512M)" },
    { name: "cpus", value: "N", summary: "CPUs of the machine (1)" },
    { name: "rig", value: "RIG", choices: RIGS, summary: `auto, ${RIG_KINDS.join(" or ")}` },
    { name: "no-wait", summary: "do not wait until the host answers" },
    RUN_DIR,
  ],
  summary: "start the best rig that this machine has and boot Plinth on it",
  examples: ["plinth rig up", "plinth rig up --rig bochs --memory 1G"],
  run: async (context) => {
    const { args, out } = context;
    const kind = args.value("rig") ?? "auto";
    if (!RIGS.includes(kind))
      throw usageError(`--rig: '${kind}' is none of ${RIGS.join(", ")}`, "plinth help rig up");
    const runDir = runDirectory(context);
    const running = await rigStatus(runDir);
    if (running) {
      const message = `a rig is running already (${running.kind}, process ${running.pid})`;
      throw new PlinthError({
        code: ErrorCode.WRONG_STATE,
        message,
        object: runDir,
        next: "plinth rig down",
      });
    }
    const rig = await start(context, runDir, kind as RigKind | "auto");
    if (!args.has("no-wait")) await untilUp(context, rig);
    if (out.json) out.object(await rigStatus(runDir));
    else out.talk(`the rig is up (${rig.kind}, process ${rig.pid}); next: plinth status`);
  },
};

async function start(context: Context, runDir: string, rig: RigKind | "auto"): Promise<Rig> {
  const { args } = context;
  const memory = parseSize(args.value("memory") ?? "512M", "--memory") / MIB;
  if (!Number.isInteger(memory))
    throw usageError("--memory: must be a multiple of 1 MiB", "plinth help rig up");
  const cpus = parseNumber(args.value("cpus") ?? "1", "--cpus");
  const iso = args.value("iso") ?? defaultImage();
  try {
    const log = (line: string): void => context.out.talk(line);
    return await startRig({ iso, memoryMiB: memory, cpus, runDir, rig, detached: true, log });
  } catch (error) {
    const [message, next] = (error as Error).message.split("; next: ");
    throw new PlinthError({
      code: ErrorCode.FAILED,
      message: message!,
      object: iso,
      next: next ?? "plinth help rig up",
    });
  }
}

/** Waits until the control domain answers, or the rig ends. */
async function untilUp(context: Context, rig: Rig): Promise<void> {
  const begin = Date.now();
  const progress = new Progress(context.out);
  let text = "";
  const timer = setInterval(() => {
    const last =
      text
        .split(/[\r\n]+/)
        .filter((line) => line.trim() !== "")
        .pop() ?? "starting";
    const elapsed = Date.now() - begin;
    progress.show(`${formatTime(elapsed)}: ${oneLine(last).slice(0, 70)}`, {
      progress: "waiting for the rig",
      state: oneLine(last),
      elapsedMs: elapsed,
    });
  }, 200);
  let refuse: (error: PlinthError) => void;
  const refused = new Promise<never>((_, fail) => (refuse = fail));
  refused.catch(() => undefined);
  const onText = (bytes: Uint8Array): void => {
    text = (text + Buffer.from(bytes).toString("latin1")).slice(-1000);
    const message = REFUSAL.exec(text)?.[1];
    if (message) refuse(new PlinthError({ code: ErrorCode.FAILED, message, next: "plinth rig down" }));
  };
  const ended = rig.exited.then(({ code, lastOutput }) => {
    const message = `the rig ended with code ${code} before the host was up:\n${lastOutput}`;
    throw new PlinthError({ code: ErrorCode.FAILED, message, next: "plinth logs --boot" });
  });
  ended.catch(() => undefined);
  try {
    const up = connect({ kind: "socket", path: rig.socketPath }, { timeout: context.longTimeout, onText });
    await (await Promise.race([up, ended, refused])).close();
  } finally {
    clearInterval(timer);
    progress.clear();
  }
}

export const rigDown: Command = {
  name: "rig down",
  operands: "",
  options: [RUN_DIR],
  summary: "end the rig, as by pulling its plug",
  run: async (context) => {
    const runDir = runDirectory(context);
    const ended = await stopRig(runDir);
    if (context.out.json) context.out.object({ ended });
    else context.out.talk(ended ? "the rig is down" : "no rig was running");
  },
};

export const rigShow: Command = {
  name: "rig status",
  operands: "",
  options: [RUN_DIR],
  summary: "what the rig is and where its files are",
  run: async (context) => {
    const runDir = runDirectory(context);
    const status = await rigStatus(runDir);
    if (!status) throw unreachable(`no rig is running in ${runDir}${lastWords(runDir)}`, "plinth rig up");
    if (context.out.json) context.out.object(status);
    else printRig(context, status);
  },
};

/** How the rig before ended, if its supervisor had something to say. */
function lastWords(runDir: string): string {
  try {
    const last = readFileSync(join(runDir, "supervisor.log"), "utf8").trim().split("\n").pop();
    return last ? `; the last one: ${oneLine(last)}` : "";
  } catch {
    return "";
  }
}

function printRig(context: Context, status: RigStatus): void {
  context.out.facts([
    ["rig", status.kind],
    ["chosen", status.reason],
    ["machine", `${status.cpus} CPUs, ${status.memoryMiB} MiB`],
    ["image", status.iso],
    ["up", formatTime(Date.now() - status.startedAt)],
    ["processes", `supervisor ${status.pid}, emulator ${status.emulatorPid}`],
    ["socket", status.socketPath],
    ["line log", status.serialLog],
  ]);
}

/** Beside the socket that the other commands use, so that they find the rig. */
function runDirectory(context: Context): string {
  const { args, world } = context;
  const socket = args.value("socket") ?? defaultSocket(world.env);
  return args.value("run-dir") ?? dirname(socket);
}

/** Beside this program if it was built there, else in build/. */
function defaultImage(): string {
  const beside = join(__dirname, "plinth.iso");
  return existsSync(beside) ? beside : join("build", "plinth.iso");
}
