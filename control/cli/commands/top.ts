// `plinth top`: who uses the CPUs, live on a terminal, once or as records for others.

import kleur from "kleur";
import {
  tenths,
  usageBetween,
  UsageSample,
  UsageVm,
  type UsageRow,
  type UsageView,
} from "../../protocol/usage";
import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import type { Command, Context } from "../command";
import { usageError } from "../errors";
import { colourState, counted, oneLine, since, tableLines } from "../output";
import type { TopSample, TopVm } from "../results";
import { formatSize, formatTime, parseTime } from "../values";

const INTERVAL = "2s";
const SHORTEST = 100;
const ENTER_SCREEN = "\x1b[?1049h\x1b[?25l";
const LEAVE_SCREEN = "\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
const KEY_T = 0x74;

export const top: Command = {
  name: "top",
  operands: "[tenants]",
  options: [
    { name: "interval", value: "TIME", summary: `time between two looks (${INTERVAL})` },
    { name: "once", summary: "one interval, then end" },
  ],
  completes: ["tenants"],
  summary: "who uses the CPUs: live on a terminal, once where there is none, for ever with --json",
  details: [
    "RUN%, READY% (it waited for a CPU) and MODEL% (its device model) are shares of one CPU over the interval;",
    "the first line has the shares of all CPUs, which are 100 % together: host is the control domain and the kernel.",
    "On a terminal t shows tenants or VMs, and any other key leaves. --json prints one record each interval.",
  ].join("\n"),
  examples: ["plinth top", "plinth top tenants --once", "plinth top --json --interval 10s"],
  run: async (context) => {
    const { args, out, world } = context;
    const word = args.operands[0] ?? "tenants";
    if (word !== "tenants") throw usageError(`'top ${word}': it knows only 'tenants'`, "plinth help top");
    const interval = parseTime(args.value("interval") ?? INTERVAL, "--interval");
    if (interval < SHORTEST) throw usageError(`--interval: it is at least ${SHORTEST}ms`, "plinth help top");
    const client = await context.connect();
    const screen = new Screen(context, client, args.operands.length > 0);
    const live = world.stdin.isTTY && world.stdout.isTTY && !out.json && !args.has("once");
    if (live && world.env.TERM !== "dumb") return watch(context, screen, interval);
    const ever = (out.json || live) && !args.has("once");
    await screen.look();
    do {
      await new Promise((resolve) => setTimeout(resolve, interval));
      await screen.look();
      screen.print();
    } while (ever);
  },
};

/** Draws until a key is typed. */
async function watch(context: Context, screen: Screen, interval: number): Promise<void> {
  const { stdin, stdout } = context.world;
  let leave = (): void => undefined;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const onKey = (keys: Buffer | string): void => {
    if (Buffer.from(keys as Buffer).every((key) => key === KEY_T)) screen.toggle();
    else leave();
  };
  let gone = false;
  void left.then(() => (gone = true));
  stdin.setRawMode?.(true);
  stdin.on("data", onKey);
  stdin.on("end", leave);
  stdin.resume();
  stdout.write(ENTER_SCREEN);
  try {
    while (!gone) {
      await Promise.race([screen.look(), left]);
      if (!gone) screen.draw();
      let timer: NodeJS.Timeout | undefined;
      await Promise.race([left, new Promise((resolve) => (timer = setTimeout(resolve, interval)))]);
      clearTimeout(timer);
    }
  } finally {
    stdout.write(LEAVE_SCREEN);
    stdin.off("data", onKey);
    stdin.off("end", leave);
    stdin.setRawMode?.(false);
    stdin.pause();
  }
}

/** What was seen last, and how it looks. */
class Screen {
  private readonly context: Context;
  private readonly client: Client;
  private tenants: boolean;
  private before = new UsageSample();
  private after: TopSample | undefined;
  private view: UsageView | undefined;

  constructor(context: Context, client: Client, tenants: boolean) {
    this.context = context;
    this.client = client;
    this.tenants = tenants;
  }

  /** Asks the host; the view is of the time since the last look, at first since the host's start. */
  async look(): Promise<void> {
    this.after = await this.client.top();
    const sample = sampleOf(this.after);
    // A host that was started again counts from zero.
    if (sample.time < this.before.time) this.before = new UsageSample();
    this.view = usageBetween(this.before, sample);
    this.before = sample;
  }

  print(): void {
    const { out } = this.context;
    if (out.json) out.record(recordOf(this.after!, this.view!));
    else for (const line of this.lines()) out.line(line);
  }

  /** As much as there is room for, over what is there. */
  draw(): void {
    const { stdout } = this.context.world;
    const { rows = 24, columns = 80 } = stdout;
    const lines = this.lines();
    const shown = lines.slice(0, rows - 1);
    if (shown.length < lines.length) shown[rows - 2] = `... ${lines.length - rows + 2} more`;
    stdout.write(
      HOME + shown.map((line) => `${cut(line, columns - 1)}${CLEAR_LINE}\r\n`).join("") + CLEAR_BELOW,
    );
  }

  toggle(): void {
    this.tenants = !this.tenants;
    if (this.view) this.draw();
  }

  private lines(): string[] {
    const { host, cpus, total, free, time } = this.after!;
    const view = this.view!;
    const { interval } = view;
    const over = interval === time ? "since its start" : `over ${formatTime(interval / 1000)}`;
    const shares = (
      [
        [view.vms, "VMs"],
        [view.models, "models"],
        [view.host, "host"],
        [view.idle, "idle"],
      ] as const
    ).map(([share, what]) => `${kleur.bold(tenths(share))} % ${what}`);
    const rows = this.tenants ? view.tenants : view.rows;
    return [
      `${kleur.bold(oneLine(host))}, up ${since(time / 1000)}; ${over} of ${counted(cpus, "CPU")}:`,
      `${shares.join(", ")}; ${formatSize(free)} of ${formatSize(total)} free`,
      ...tableLines(
        [
          ...(this.tenants ? ["TENANT", ">VMS"] : ["NAME", "STATE"]),
          ...[">MEMORY", ">RUN%", ">READY%", ">MODEL%", ">EXITS/S"],
          ...(this.tenants ? [] : ["MOST EXITS"]),
        ],
        rows.map((row) => this.cells(row)),
      ),
    ];
  }

  private cells(row: UsageRow): string[] {
    return [
      oneLine(row.name),
      this.tenants ? String(row.vms) : colourState(oneLine(row.state)),
      formatSize(row.memory),
      ...[row.run, row.ready, row.model].map(tenths),
      String(row.exits),
      ...(this.tenants ? [] : [row.reasons.map((name, n) => `${oneLine(name)} ${row.rates[n]}`).join(", ")]),
    ];
  }
}

/** The first `width` visible characters. */
function cut(line: string, width: number): string {
  let left = width;
  return line.replace(/\x1b\[[0-9;]*m|./gsu, (part) => (part.startsWith("\x1b") || left-- > 0 ? part : ""));
}

function sampleOf({ time, idle, cpus, vms }: TopSample): UsageSample {
  return Object.assign(new UsageSample(), { time, idle, cpus, vms: vms.map(usageOf) });
}

function usageOf(vm: TopVm): UsageVm {
  const { state, vcpus, memory, starts, run, ready, model, at } = vm;
  return Object.assign(new UsageVm(vm.name), {
    ...{ state, vcpus, memory, starts, run, ready, model, at },
    tenant: vm.tenant ?? schema.TENANT_DEFAULT,
    exits: Number(vm.exits),
    reasons: Object.keys(vm.counters),
    counts: Object.values(vm.counters).map(Number),
  });
}

/** A view for programs: shares in percent. */
function recordOf({ host, time, cpus, total, free }: TopSample, view: UsageView): object {
  const row = ({ name, state, vcpus, memory, run, ready, model, exits, ...more }: UsageRow): object => ({
    ...{ name, vcpus, memory, run: run / 10, ready: ready / 10, model: model / 10, exits },
    ...(state === "" ? { vms: more.vms } : { state, tenant: more.tenant, reasons: ratesOf(more) }),
  });
  return {
    ...{ host, timeMs: time / 1000, intervalMs: view.interval / 1000, cpus },
    shares: {
      vms: view.vms / 10,
      models: view.models / 10,
      host: view.host / 10,
      idle: view.idle / 10,
    },
    memory: { total, free },
    vms: view.rows.map(row),
    tenants: view.tenants.map(row),
  };
}

function ratesOf({ reasons, rates }: { reasons: string[]; rates: number[] }): Record<string, number> {
  return Object.fromEntries(reasons.map((name, n) => [name, rates[n]!]));
}
