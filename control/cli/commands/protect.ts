// `plinth protect`: VMs are kept in the repository, again and again. `plinth recover`: they go on on another host.

import { connect } from "../client";
import { BULK, type Command, type Context } from "../command";
import { ErrorCode, PlinthError, toPlinthError, usageError } from "../errors";
import { protectOnce, vmsToProtect } from "../fleet/protect";
import { fence, lastGood, recoverOne, type Recovered } from "../fleet/recover";
import { counted, oneLine } from "../output";
import { reconnected } from "../reconnect";
import { INTERRUPTED } from "../snapshot/interrupt";
import { REPO, repositoryOf, ROLLBACK, SECRET, TRUST } from "../snapshot/setup";
import { parseAddress } from "../transport";
import { formatSize, formatTime, parseNumber, parseTime } from "../values";

const EVERY = "30s";
const KEEP = "20";

/** Whether the person has pressed Ctrl-C, and sleep that it ends. */
class Patience {
  isOver = false;
  private readonly end: Promise<void>;
  private readonly listener: () => void;

  constructor() {
    let resolve = (): void => undefined;
    this.end = new Promise<void>((done) => (resolve = done));
    this.listener = () => {
      this.isOver = true;
      resolve();
    };
    process.once("SIGINT", this.listener);
  }

  async sleep(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([this.end, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
    clearTimeout(timer);
  }

  get left(): Promise<void> {
    return this.end;
  }

  stop(): void {
    process.off("SIGINT", this.listener);
  }
}

export const protect: Command = {
  name: "protect",
  operands: "[VM...]",
  options: [
    { name: "every", value: "TIME", summary: `from the start of a round to that of the next (${EVERY})` },
    { name: "keep", value: "N", summary: `how many snapshots of each VM the repository keeps (${KEEP})` },
    { name: "rounds", value: "N", summary: "end after so many rounds; if not given, it runs until Ctrl-C" },
    { name: "overcommit", summary: "even if memory may not suffice for all that is written later" },
    BULK,
    REPO,
    ...SECRET,
  ],
  completes: "vm",
  summary: "keep VMs in the repository again and again, so that another host can go on with them",
  details: [
    "Without VM all that run or are paused. Each round makes a snapshot of each VM and sends what differs from the one before;",
    "the host keeps only the newest. In the repository older ones than --keep are dropped, but for those that others rest on.",
    "What fails is said, and tried again in the next round; a host that cannot be reached is waited for. Then, should the host",
    "be lost: plinth recover --from-host NAME --to ADDRESS.",
  ].join("\n"),
  examples: [
    "plinth protect --every 30s",
    "plinth protect web db --every 5m --keep 50 --repo /backup/plinth",
  ],
  run: async (context) => {
    const { args, out } = context;
    const every = parseTime(args.value("every") ?? EVERY, "--every");
    const keep = parseNumber(args.value("keep") ?? KEEP, "--keep");
    const rounds = args.has("rounds") ? parseNumber(args.value("rounds")!, "--rounds") : Infinity;
    if (keep < 1) throw usageError("--keep: at least one");
    repositoryOf(context);
    await context.connectForPages();
    const patience = new Patience();
    let kept = 0;
    try {
      for (let round = 1; round <= rounds && !patience.isOver; round++) {
        const start = Date.now();
        kept += await protectRound(context, keep, patience);
        if (round < rounds) await patience.sleep(Math.max(0, start + every - Date.now()));
      }
    } finally {
      patience.stop();
    }
    if (!out.json) out.talk(`${counted(kept, "snapshot")} made`);
  },
};

/** One round; returns how many VMs were kept. */
async function protectRound(context: Context, keep: number, patience: Patience): Promise<number> {
  const { args, out } = context;
  const options = { out, keep, overcommit: args.has("overcommit") };
  let vms: string[] | undefined;
  let kept = 0;
  for (let n = 0; vms === undefined || n < vms.length; n++) {
    const vm = vms?.[n];
    try {
      const client = await context.connect();
      if (vm === undefined) {
        vms = await vmsToProtect(client, args.operands);
        n = -1;
        continue;
      }
      const repository = repositoryOf(context);
      const done = await protectOnce(client, vm, { ...options, repository }).finally(() =>
        repository.close(),
      );
      kept++;
      const dropped = done.dropped.length > 0 ? `, ${done.dropped.length} dropped` : "";
      const amount = `${formatSize(done.sent)} sent of ${formatSize(done.bytes)}`;
      if (out.json) out.record(done);
      else out.talk(`${oneLine(vm)}: ${done.snapshot}, ${amount} in ${formatTime(done.ms)}${dropped}`);
    } catch (thrown) {
      const error = toPlinthError(thrown);
      if (error.code === INTERRUPTED || patience.isOver) {
        patience.isOver = true;
        return kept;
      }
      if (error.code === ErrorCode.USAGE) throw error;
      if (out.json) out.record({ ...(vm === undefined ? {} : { vm }), error: error.message });
      else
        out.talk(`${vm === undefined ? "" : `${oneLine(vm)}: `}${oneLine(error.message)}; it is tried again`);
      if (error.code !== ErrorCode.UNREACHABLE) continue;
      const isLeft = (): boolean => patience.isOver;
      if (!(await reconnected(context, patience.left, isLeft))) return kept;
      if (!out.json) out.talk("the host is back");
      if (vm === undefined) n = -1;
    }
  }
  return kept;
}

export const recover: Command = {
  name: "recover",
  operands: "",
  options: [
    { name: "from-host", value: "NAME", summary: "the host that is lost, by its name" },
    {
      name: "to",
      value: "ADDRESS",
      summary: "the host that goes on: a socket, tcp:HOST:PORT or device:PATH",
    },
    { name: "fenced", summary: "the lost host is off and stays off: you have made sure of that" },
    {
      name: "fence",
      value: "COMMAND",
      summary: "what switches it off: nothing is started unless that exits with 0 ($PLINTH_HOST is its name)",
    },
    { name: "dry-run", summary: "only say of which VMs there is what, and how old that is" },
    BULK,
    TRUST,
    ...ROLLBACK,
    REPO,
    ...SECRET,
  ],
  summary: "let the VMs of a lost host go on on another one, from what 'plinth protect' has kept last",
  details: [
    "Of each VM the newest snapshot is taken of which every byte is there. It goes on with the identity that it had: so the old",
    "host must not run any more. Without --fenced or --fence a person at a terminal is asked for that. What the VM has done",
    "since the snapshot is lost; how old that is is said for each. One that the other host has already is left alone, so",
    "the command may be given again.",
  ].join("\n"),
  examples: [
    "plinth recover --from-host rack1 --to tcp:rack2:7000 --dry-run",
    "plinth recover --from-host rack1 --to tcp:rack2:7000 --fence 'ipmitool -H rack1-bmc power off'",
  ],
  run: async (context) => {
    const { args, out } = context;
    const host = args.value("from-host");
    const to = args.value("to");
    if (host === undefined)
      throw usageError("'plinth recover' needs --from-host NAME", "plinth help recover");
    const isDry = args.has("dry-run");
    if (to === undefined && !isDry)
      throw usageError("'plinth recover' needs --to ADDRESS", "plinth help recover");
    const repository = repositoryOf(context);
    const all = lastGood(context, repository, host);
    if (all.length === 0)
      throw new PlinthError({
        code: ErrorCode.NOT_FOUND,
        message: `${repository.folder} has no snapshots of VMs of ${host} that 'plinth protect' has made`,
        object: host,
        next: "plinth snapshot ls --local",
      });
    if (!isDry) {
      for (const one of all) if (one.snapshot !== "" && !out.json) out.talk(ageText(one));
      await fence(context, host);
      const address = parseAddress(to!);
      const client = await connect(address, context.pageOptions(address));
      try {
        for (const one of all.filter(({ state }) => state === "ready"))
          await recoverOne(context, client, repository, one).catch((error: unknown) => {
            const { code, message } = toPlinthError(error);
            if (code === INTERRUPTED) throw error;
            Object.assign(one, { state: "failed", problem: message });
          });
      } finally {
        await client.close();
      }
    }
    if (out.json) out.object({ host, vms: all });
    else
      out.table(
        ["VM", "SNAPSHOT", ">AGE", "STATE"],
        all.map(({ vm, snapshot, ageMs, state, problem }) => [
          oneLine(vm),
          snapshot,
          snapshot === "" ? "" : formatTime(ageMs),
          state + (problem === "" ? "" : `: ${oneLine(problem)}`),
        ]),
      );
    const bad = all.filter(({ state }) => ["lost", "forbidden", "failed"].includes(state));
    if (bad.length === 0) return;
    const names = bad.map(({ vm }) => vm).join(", ");
    throw new PlinthError({
      code: bad.some(({ state }) => state !== "forbidden") ? ErrorCode.FAILED : ErrorCode.INTEGRITY,
      message: `${bad.length} of ${all.length} could not go on: ${names}: ${bad[0]!.problem}`,
      object: bad[0]!.vm,
      next:
        bad[0]!.state === "forbidden"
          ? "give --allow-rollback if that is what you want"
          : "plinth snapshot verify",
    });
  },
};

function ageText({ vm, snapshot, ageMs }: Recovered): string {
  return `${vm} goes back to what it was ${formatTime(ageMs)} ago (${snapshot})`;
}
