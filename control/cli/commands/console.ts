// `plinth console`: a VM's console for a person at a terminal, for a pipe, or for a script of --send and --expect.

import * as schema from "../../protocol/schema";
import type { Command, Context } from "../command";
import { ConsoleSession } from "../console-session";
import { newSession } from "../console-stream";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { LogFile } from "../log-file";
import { oneLine } from "../output";
import { inputSize, Transfer } from "../progress";
import { reconnected } from "../reconnect";
import type { HostEvent, VmRow } from "../results";
import { parseSteps } from "../script";
import { playScript } from "../script-player";
import { attachTerminal } from "../terminal";

export const consoleCommand: Command = {
  name: "console",
  operands: "NAME",
  options: [
    {
      name: "send",
      value: "TEXT",
      repeat: true,
      summary: "type TEXT; \\n \\r \\t \\e \\xHH \\\\ are understood",
    },
    {
      name: "expect",
      value: "REGEX",
      repeat: true,
      summary: "wait until REGEX appears; --timeout limits each (5m)",
    },
    { name: "read-only", summary: "watch only; what is typed is dropped" },
    { name: "force", summary: "take it over from who types there now" },
    { name: "log", value: "FILE", choices: ["file"], summary: "append the output to FILE too" },
    { name: "timestamps", summary: "with --log: begin each line with the time" },
  ],
  completes: "vm",
  summary: "attach to a VM's console",
  details: [
    "At a terminal: shows what the VM has printed (the last 64 KiB), then attaches; if the host or the line is lost, it",
    "attaches again as soon as that is back, and goes on where it was.",
    "Leave with ~. at the start of a line, or with Ctrl-]; ~? explains, ~~ types one ~.",
    "One types at a time; others watch with --read-only or take over with --force, of which both are told.",
    "With --send and --expect: plays them in the order given. An --expect looks at what was printed since the",
    "last --send, or at everything if nothing was sent yet. A time-out is exit code 5 and names the step.",
    "From a pipe: types what stdin holds, prints what the VM answers until it is quiet for a second.",
  ].join("\n"),
  examples: [
    "plinth console a",
    "plinth console a --send 'uname -a\\n' --expect 'Linux .*x86_64'",
    "plinth console a --read-only --log a.log --timestamps",
  ],
  run: async (context) => {
    const vm = context.args.operands[0]!;
    const steps = parseSteps(context.args.given);
    const client = await context.connect();
    const row = (await client.list()).find((candidate) => candidate.name === vm);
    const log = openLog(context);
    try {
      if (context.world.stdin.isTTY && steps.length === 0) return await attachPerson(context, row, log);
      const readOnly = context.args.has("read-only");
      if (readOnly && steps.length === 0) return await watch(context, log);
      await withSession(context, log, async (session) => {
        const types = steps.length === 0 || steps.some(({ kind }) => kind === "send");
        if (types && !readOnly) await session.stream.hold(context.args.has("force"));
        if (steps.length > 0) await playScript(session, steps);
        else await typePipe(session);
      });
    } finally {
      await log?.close();
    }
  },
};

function openLog(context: Context): LogFile | undefined {
  const path = context.args.value("log");
  const stamps = context.args.has("timestamps");
  if (path === undefined && stamps) throw usageError("--timestamps needs --log FILE", "plinth help console");
  if (path === undefined) return undefined;
  return new LogFile(path, stamps, (error) => context.out.talk(`plinth: ${path}: ${error.message}`));
}

/** Opens a console for `use`, on the session with the host that there is now. */
async function withSession(
  context: Context,
  log: LogFile | undefined,
  use: (session: ConsoleSession) => Promise<void>,
  number?: number,
): Promise<void> {
  const vm = context.args.operands[0]!;
  const stream = (await context.connect()).console(vm, number);
  const session = new ConsoleSession(context, stream, vm);
  stream.on("taken", (error: Error) => session.fail(error));
  if (log) stream.on("data", (data: Uint8Array) => log.write(data));
  try {
    await use(session);
    await stream.detach().catch(() => undefined);
  } catch (error) {
    void stream.detach().catch(() => undefined); // nobody waits for a host that may be gone
    throw error;
  }
}

/** Where a console is when its line is lost. */
interface Place {
  position: number;
  /** The host's uptime in milliseconds; a lower one is that of another boot. */
  uptime: number;
}

/**
 * Stays attached through losses of the host and of the line, until `left` resolves. `attach` prepares each session;
 * `say` tells what happens. The first attachment fails as any command does.
 */
async function stay(
  context: Context,
  log: LogFile | undefined,
  left: Promise<unknown>,
  attach: (session: ConsoleSession) => Promise<void>,
  say: (text: string) => void,
): Promise<void> {
  const place: Place = { position: 0, uptime: -1 };
  const number = newSession();
  let gone = false;
  void left.then(() => (gone = true));
  for (;;) {
    try {
      const use = async (session: ConsoleSession): Promise<void> => {
        await resume(session, place);
        await session.orFail(attach(session));
        if (gone) return;
        await session.orFail(left).finally(() => (place.position = session.stream.position));
      };
      return await withSession(context, log, use, number);
    } catch (error) {
      const lost = error as PlinthError;
      if (lost.code !== ErrorCode.UNREACHABLE || place.uptime < 0) throw error;
      say(`${lost.message}; trying again`);
      if (!(await reconnected(context, left, () => gone))) throw error;
      say("connected again");
    }
  }
}

/** Goes on where the console was, unless the host has been started again. */
async function resume({ stream, context }: ConsoleSession, place: Place): Promise<void> {
  const { uptimeMs } = await (await context.connect()).status();
  stream.position = uptimeMs >= place.uptime ? place.position : 0;
  place.uptime = uptimeMs;
}

async function attachPerson(
  context: Context,
  row: VmRow | undefined,
  log: LogFile | undefined,
): Promise<void> {
  const { out, args, world } = context;
  const vm = args.operands[0]!;
  const readOnly = args.has("read-only");
  const say = (text: string): void => void world.stderr.write(`\r\n[${text}]\r\n`);
  let watches = readOnly;
  let force = args.has("force");
  let current: ConsoleSession | undefined;
  let typing = Promise.resolve();
  let terminal: ReturnType<typeof attachTerminal> | undefined;
  let leave = (): void => undefined;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const type = (data: Uint8Array): void => {
    const { stream } = current!;
    if (!watches) typing = typing.then(() => stream.write(data)).catch((error: Error) => say(error.message));
  };
  const attach = async (session: ConsoleSession): Promise<void> => {
    const { stream } = session;
    session.attended = true;
    stream.removeAllListeners("taken");
    stream.on("taken", ({ message }: Error) => {
      watches = true;
      say(`${message.split(";")[0]}: you watch from now on; next: plinth console ${vm} --force`);
    });
    stream.on("data", (data: Uint8Array, at: number) => session.print(data, at));
    stream.on("lost", (count: number) => say(`${count} bytes of output were lost`));
    stream.on("event", (event: HostEvent) => say(`${vm}: ${oneLine(event.text || event.kind)}`));
    if (!watches) await stream.hold(force);
    force = false;
    current = session;
    if (terminal === undefined) {
      banner(context, row);
      terminal = attachTerminal(world, type);
      void terminal.left.then(leave);
    }
    await stream.open();
  };
  try {
    await stay(context, log, left, attach, say);
  } finally {
    terminal?.restore();
    if (terminal) out.talk(`\r\nleft the console of ${vm}`);
  }
}

function banner({ out, args }: Context, row: VmRow | undefined): void {
  const vm = args.operands[0]!;
  const how = args.has("read-only") ? ", read-only" : "";
  out.talk(`console of ${vm}${how}; leave with ~. at the start of a line, or with Ctrl-]`);
  if (!row || row.state === schema.STATE_RUNNING || row.state === schema.STATE_STARTING) return;
  out.talk(
    `${vm} is ${row.state}; next: plinth ${row.state === schema.STATE_PAUSED ? "resume" : row.state === schema.STATE_MOVED ? "rm" : "start"} ${vm}`,
  );
}

/** Not at a terminal, and nothing is typed: the output, for ever. */
function watch(context: Context, log: LogFile | undefined): Promise<void> {
  const talk = (text: string): void => context.out.talk(`plinth: ${text}`);
  const attach = async (session: ConsoleSession): Promise<void> => {
    showAll(session);
    await session.stream.open();
  };
  return stay(context, log, new Promise(() => undefined), attach, talk);
}

function showAll(session: ConsoleSession): void {
  const { stream, context } = session;
  stream.on("data", (data: Uint8Array, at: number) => session.print(data, at));
  stream.on("lost", (count: number) => context.out.talk(`plinth: ${count} bytes of output were lost`));
}

/** Not at a terminal: stdin is typed, the answer printed. */
async function typePipe(session: ConsoleSession): Promise<void> {
  const { context, stream } = session;
  const { world, out } = context;
  showAll(session);
  await session.orFail(stream.open());
  await session.orFail(session.replayed());
  const transfer = new Transfer(out, `typing into ${session.vm}`, inputSize(world));
  const type = async (): Promise<void> => {
    for await (const data of world.stdin) {
      await stream.write(Buffer.from(data as Buffer));
      transfer.add((data as Buffer).length);
    }
  };
  await session.orFail(type()).finally(() => transfer.end());
  await session.orFail(session.quiet());
}
