// The commands that change VMs: create, start, stop, pause, resume, reset, rm.

import * as schema from "../../protocol/schema";
import type { Option } from "../arguments";
import type { Client } from "../client";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { colourState, oneLine } from "../output";
import type { VmRow } from "../results";
import { specsFromArguments } from "../spec";
import { BOOTS } from "../spec-schema";
import { parseSize } from "../values";
import { GONE, WAIT_STATES, waitForState } from "../wait";

const WAIT: Option = {
  name: "wait",
  value: "STATE",
  optional: true,
  choices: WAIT_STATES,
  summary: "wait until the VM is there; --timeout limits it (5m)",
};
const FORCE: Option = { name: "force", summary: "" };
const PROTECTED: Option = { name: "protected", summary: "with --force: even if it is protected" };
const POLICIES = [schema.POLICY_NEVER, schema.POLICY_ON_FAILURE, schema.POLICY_ALWAYS];

export const create: Command = {
  name: "create",
  operands: "[NAME]",
  options: [
    {
      name: "file",
      short: "f",
      value: "FILE",
      choices: ["file"],
      summary: "JSON, YAML or TOML: one VM, or a host specification with 'vms'; - is stdin",
    },
    { name: "tenant", value: "TENANT", choices: ["tenant"], summary: "whose VM it is (default)" },
    { name: "tag", value: "TAG", repeat: true, summary: "a tag, for 'plinth ls tag=TAG'" },
    { name: "protected", summary: "stop, reset and rm need --force --protected" },
    { name: "memory", value: "SIZE", summary: "memory: 128M, 1G" },
    { name: "balloon", value: "SIZE", summary: "what its balloon leaves it of that from the start (all)" },
    { name: "vcpus", value: "N", summary: "virtual CPUs (1)" },
    {
      name: "scheduling",
      value: "CLASS",
      choices: [schema.SCHEDULING_SHARED, schema.SCHEDULING_RESERVED, schema.SCHEDULING_DEDICATED],
      summary: "how its vCPUs get their time: by weight, a part for sure, or a CPU each (shared)",
    },
    { name: "weight", value: "N", summary: "of a shared vCPU beside others, 1 to 10000 (100)" },
    { name: "cap", value: "PERCENT", summary: "of a CPU, that a shared vCPU gets at most" },
    { name: "reserve", value: "PERCENT", summary: "of a CPU, that a reserved vCPU gets for sure" },
    { name: "period", value: "MS", summary: "in which it gets that, 1 to 1000 (10)" },
    { name: "latency", value: "MS", summary: "in which a shared vCPU's turn comes, 1 to 1000 (20)" },
    { name: "cpus", value: "SET", summary: "the host's CPUs that it may run on: 0-3,6 (all)" },
    { name: "kernel", value: "IMAGE", summary: "kernel, as 'plinth images' lists it" },
    { name: "boot", value: "WAY", choices: BOOTS, summary: "how to start it; auto: as the image asks for" },
    { name: "initrd", value: "IMAGE", summary: "initrd, as 'plinth images' lists it" },
    { name: "firmware", value: "IMAGE", summary: "firmware that boots from a disk, instead of a kernel" },
    {
      name: "module",
      value: "IMAGE",
      repeat: true,
      summary: "image for the kernel (Multiboot, PVH); IMAGE,TEXT: with a command line",
    },
    {
      name: "console",
      value: "DEVICE",
      choices: [schema.CONSOLE_SERIAL, schema.CONSOLE_VIRTIO],
      summary: "what its console is: serial (ttyS0) or virtio (hvc0)",
    },
    {
      name: "disk",
      value: "IMAGE",
      repeat: true,
      summary: "disk made from an image; IMAGE,ro: read-only; IMAGE,cd: a CD",
    },
    { name: "debug-exit", summary: "a write to port 0xf4 ends the VM with an exit code" },
    {
      name: "network",
      value: "NAME",
      repeat: true,
      summary: "network card, on a network that two cards share; NAME,MAC: with this address",
    },
    {
      name: "port",
      value: "NAME",
      repeat: true,
      summary: "named port beside the console, for 'plinth port'",
    },
    {
      name: "rings",
      value: "LAYOUT",
      choices: [schema.RINGS_PACKED, schema.RINGS_SPLIT],
      summary: "virtio rings: packed ones too (what a driver prefers), or only split ones",
    },
    { name: "node", value: "N", summary: "NUMA node of its memory (hardware); without it the host chooses" },
    { name: "cmdline", value: "TEXT", summary: "kernel command line" },
    {
      name: "restart",
      value: "POLICY",
      choices: POLICIES,
      summary: "never, on-failure[:MAX/SECONDS] or always[:MAX/SECONDS]",
    },
    { name: "start", summary: "start it at once" },
    WAIT,
  ],
  summary: "create a VM from options or a file",
  examples: [
    'plinth create a --memory 128M --kernel linux --initrd initrd --cmdline "console=ttyS0" --start --wait',
    "plinth create -f vm.json --wait",
  ],
  run: async (context) => {
    const specs = specsFromArguments(context.args);
    const client = await context.connect();
    const rows: (VmRow | undefined)[] = [];
    for (const spec of specs) {
      const row = await client.create(spec);
      const usual = spec.start ? schema.STATE_RUNNING : schema.STATE_STOPPED;
      rows.push(await afterwards(context, client, row, usual));
    }
    report(
      context,
      rows,
      specs.map((spec) => spec.name),
    );
  },
};

/** A command that does one thing to each of the VMs named. */
function onEach(
  name: string,
  usual: string,
  summary: string,
  options: readonly Option[],
  act: (client: Client, vm: string, context: Context) => Promise<VmRow>,
): Command {
  return {
    name,
    operands: "NAME...",
    options: [...options, WAIT],
    completes: "vm",
    summary,
    run: async (context) => {
      waitState(context, usual);
      const client = await context.connect();
      const rows: (VmRow | undefined)[] = [];
      for (const vm of context.args.operands) {
        rows.push(await afterwards(context, client, await act(client, vm, context), usual));
      }
      report(context, rows, context.args.operands, usual);
    },
  };
}

export const start = onEach("start", schema.STATE_RUNNING, "start a VM", [], (client, vm) =>
  client.start(vm),
);

export const stop: Command = {
  ...onEach(
    "stop",
    schema.STATE_STOPPED,
    "press a VM's power button, or with --force end it",
    [{ ...FORCE, summary: "end the VM at once, without asking it" }, PROTECTED],
    (client, vm, context) =>
      context.args.has("force")
        ? client.stop(vm, true, context.args.has("protected"))
        : pressPowerButton(client, vm, context),
  ),
  details: "Without --force the VM's own system decides: it may take its time or ignore the button.",
  examples: ["plinth stop a --wait --timeout 1m", "plinth stop a --force"],
};

/** Milliseconds in which a VM's hardware tells that nothing listens to its power button. */
const REACTION = 500;

/** Presses a VM's power button; fails if that has no effect, and says what to do if it has none yet. */
async function pressPowerButton(client: Client, vm: string, context: Context): Promise<VmRow> {
  let row = await client.stop(vm);
  for (const end = Date.now() + REACTION; row.reason === schema.REASON_PRESSED && Date.now() < end;) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    row = (await client.list()).find((candidate) => candidate.name === vm) ?? row;
  }
  const next = `plinth stop ${vm} --force`;
  if (row.reason === schema.REASON_UNHEARD) {
    const message = `${vm} runs on: its power button was pressed, but no driver in it listens to that`;
    throw new PlinthError({ code: ErrorCode.WRONG_STATE, message, object: vm, next });
  }
  if (row.state === schema.STATE_RUNNING && !context.args.has("wait"))
    context.out.talk(`${vm}: it may take its time; next: plinth stop ${vm} --wait, or ${next}`);
  return row;
}

export const pause = onEach(
  "pause",
  schema.STATE_PAUSED,
  "stop a VM's virtual CPUs, keep its memory",
  [],
  (client, vm) => client.pause(vm),
);

export const resume: Command = {
  ...onEach(
    "resume",
    schema.STATE_RUNNING,
    "let a paused VM go on",
    [{ ...FORCE, summary: "also one that has moved to another host, if it does not run there" }],
    (client, vm, { args }) => client.resume(vm, args.has("force")),
  ),
  details:
    "A VM that 'plinth migrate' has given up here is 'moved' until it is removed. If it was lost there, --force takes it back.",
  examples: ["plinth resume a", "plinth resume a --force"],
};

export const balloon: Command = {
  name: "balloon",
  operands: "NAME SIZE",
  options: [],
  completes: "vm",
  summary: "leave a VM SIZE of its memory; its balloon driver gives the rest to the host",
  run: async (context) => {
    const [vm, size] = context.args.operands;
    if (vm === undefined || size === undefined) throw usageError("balloon: it needs a VM and a size");
    const row = await (await context.connect()).balloon(vm, parseSize(size, "SIZE"));
    if (context.out.json) context.out.object(row);
  },
  details: "The driver takes its time, and may refuse: 'plinth show NAME' has target and actual size.",
  examples: ["plinth balloon a 64M"],
};

export const reset = onEach(
  "reset",
  schema.STATE_RUNNING,
  "start a VM again, as by its reset button",
  [{ ...FORCE, summary: "with --protected: even if it is protected" }, PROTECTED],
  (client, vm, { args }) => client.reset(vm, args.has("force"), args.has("protected")),
);

export const rm: Command = {
  ...onEach(
    "rm",
    GONE,
    "remove a VM that is stopped or crashed, or has moved",
    [{ ...FORCE, summary: "end it first if it runs" }, PROTECTED],
    (client, vm, { args }) => client.remove(vm, args.has("force"), args.has("protected")),
  ),
  details: "Its memory and its console's scroll-back are gone afterwards.",
};

/** The state to wait for: "" if --wait was not given. */
function waitState(context: Context, usual: string): string {
  if (!context.args.has("wait")) return "";
  const given = context.args.value("wait")!;
  if (given !== "" && !WAIT_STATES.includes(given)) {
    throw usageError(`--wait: '${given}' is none of ${WAIT_STATES.join(", ")}`);
  }
  return given || usual;
}

async function afterwards(
  context: Context,
  client: Client,
  row: VmRow,
  usual: string,
): Promise<VmRow | undefined> {
  const state = waitState(context, usual);
  if (state === "") return row;
  const then = await waitForState(client, row.name, state, context.longTimeout, context.out);
  return usual === GONE ? row : then;
}

/** One VM is printed as an object, several as a list. */
function report(
  context: Context,
  rows: readonly (VmRow | undefined)[],
  names: readonly string[],
  usual = "",
): void {
  const { out } = context;
  if (out.json) return out.object(rows.length === 1 ? (rows[0] ?? { name: names[0], state: GONE }) : rows);
  rows.forEach((row, n) => {
    const told = usual !== GONE && row?.reason && row.reason !== row.state;
    const reason = told ? ` (${oneLine(row.reason)})` : "";
    const state = usual === GONE || row === undefined ? "removed" : colourState(oneLine(row.state));
    out.talk(`${oneLine(row?.name ?? names[n])}: ${state}${reason}`);
  });
}
