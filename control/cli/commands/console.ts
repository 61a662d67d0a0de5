// `plinth console`: a VM's console for a person at a terminal, for a pipe, or for a script of --send and --expect.

import { createWriteStream, type WriteStream } from "node:fs";
import * as schema from "../../protocol/schema";
import type { Command, Context } from "../command";
import { ConsoleSession } from "../console-session";
import { oneLine } from "../output";
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
    { name: "read-only", summary: "show only; what is typed is dropped" },
    { name: "log", value: "FILE", choices: ["file"], summary: "append the output to FILE too" },
  ],
  completes: "vm",
  summary: "attach to a VM's console",
  details: [
    "At a terminal: shows what the VM has printed (the last 64 KiB), then attaches.",
    "Leave with ~. at the start of a line, or with Ctrl-]; ~? explains, ~~ types one ~.",
    "With --send and --expect: plays them in the order given. An --expect looks at what was printed since the",
    "last --send, or at everything if nothing was sent yet. A time-out is exit code 5 and names the step.",
    "From a pipe: types what stdin holds, prints what the VM answers until it is quiet for a second.",
  ].join("\n"),
  examples: ["plinth console a", "plinth console a --send 'uname -a\\n' --expect 'Linux .*x86_64'"],
  run: async (context) => {
    const vm = context.args.operands[0]!;
    const steps = parseSteps(context.args.given);
    const client = await context.connect();
    const row = (await client.list()).find((candidate) => candidate.name === vm);
    const session = new ConsoleSession(context, client.console(vm), vm);
    const log = openLog(context);
    if (log) session.stream.on("data", (data: Uint8Array) => log.write(data));
    try {
      if (steps.length > 0) await playScript(session, steps);
      else if (context.world.stdin.isTTY) await attachPerson(session, row);
      else await attachPipe(session);
      await client.detachConsole(vm).catch(() => undefined);
    } finally {
      session.stream.close();
      if (log) await new Promise<void>((resolve) => log.end(() => resolve()));
    }
  },
};

function openLog(context: Context): WriteStream | undefined {
  const path = context.args.value("log");
  if (path === undefined) return undefined;
  const file = createWriteStream(path, { flags: "a" });
  file.on("error", (error) => context.out.talk(`plinth: ${path}: ${error.message}`));
  return file;
}

async function attachPerson(session: ConsoleSession, row: VmRow | undefined): Promise<void> {
  const { context, stream, vm } = session;
  const { out } = context;
  const readOnly = context.args.has("read-only");
  out.talk(
    `console of ${vm}${readOnly ? ", read-only" : ""}; leave with ~. at the start of a line, or with Ctrl-]`,
  );
  if (row && row.state !== schema.STATE_RUNNING && row.state !== schema.STATE_STARTING) {
    out.talk(
      `${vm} is ${row.state}; next: plinth ${row.state === schema.STATE_PAUSED ? "resume" : "start"} ${vm}`,
    );
  }
  const say = (text: string): void => void context.world.stderr.write(`\r\n[${text}]\r\n`);
  stream.on("data", (data: Uint8Array, at: number) => session.print(data, at));
  stream.on("lost", (count: number) => say(`${count} bytes of output were lost`));
  stream.on("event", (event: HostEvent) => say(`${vm}: ${oneLine(event.text || event.kind)}`));
  let typing = Promise.resolve();
  const terminal = attachTerminal(context.world, (data) => {
    if (!readOnly) typing = typing.then(() => stream.write(data)).catch((error: Error) => say(error.message));
  });
  try {
    await session.orFail(stream.open());
    await session.orFail(terminal.left);
  } finally {
    terminal.restore();
    out.talk(`\r\nleft the console of ${vm}`);
  }
}

/** Not at a terminal: stdin is typed, the answer printed. */
async function attachPipe(session: ConsoleSession): Promise<void> {
  const { context, stream } = session;
  stream.on("data", (data: Uint8Array, at: number) => session.print(data, at));
  stream.on("lost", (count: number) => context.out.talk(`plinth: ${count} bytes of output were lost`));
  await session.orFail(stream.open());
  await session.orFail(session.replayed());
  if (context.args.has("read-only")) await session.orFail(new Promise(() => undefined));
  const type = async (): Promise<void> => {
    for await (const data of context.world.stdin) await stream.write(Buffer.from(data as Buffer));
  };
  await session.orFail(type());
  await session.orFail(session.quiet());
}
