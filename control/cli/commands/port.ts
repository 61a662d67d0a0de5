// `plinth port`: a named port of a VM, for a pipe or for a person at a terminal.

import type { Command, Context } from "../command";
import { ErrorCode, PlinthError } from "../errors";
import { inputSize, Progress, Transfer } from "../progress";
import type { PortStream } from "../port-stream";
import { attachTerminal } from "../terminal";
import { formatTime } from "../values";

/** Milliseconds without an answer after which a pipe whose input has ended is done. */
const QUIET = 1000;

export const port: Command = {
  name: "port",
  operands: "NAME PORT",
  options: [
    { name: "wait", summary: "wait until a program in the VM opens it; --timeout limits it (5m)" },
    { name: "read-only", summary: "send nothing; ends when the VM closes the port" },
    { name: "force", summary: "take it from another program" },
  ],
  completes: "vm",
  summary: "send to and receive from a named port of a VM",
  details: [
    "A port that the VM's specification names ('plinth create --port NAME') is a virtio console port: in Linux",
    "/dev/vportNpM, and by its name in /sys/class/virtio-ports and, with udev, in /dev/virtio-ports.",
    "From a pipe: sends what stdin holds, prints what the VM sends until it is quiet for a second or closes the port.",
    "At a terminal: leave with ~. at the start of a line, or with Ctrl-].",
    "Bytes pass as they are, and none is lost: each side waits while the other does not read.",
  ].join("\n"),
  examples: [
    'echo \'{"execute":"guest-ping"}\' | plinth port a org.qemu.guest_agent.0',
    "plinth port a log --read-only --wait >log",
  ],
  run: async (context) => {
    const [vm, name] = context.args.operands;
    const stream = (await context.connect()).port(vm!, name!);
    await stream.open({ wait: context.args.has("wait"), force: context.args.has("force") });
    let failed = true;
    try {
      if (context.args.has("read-only")) await receiveAll(context, stream);
      else if (context.world.stdin.isTTY) await attachPerson(context, stream);
      else await attachPipe(context, stream);
      failed = false;
    } finally {
      // Whatever went wrong before is the better message.
      await stream.close().catch((error: Error) => {
        if (!failed) throw error;
      });
    }
  },
};

/** The same, and tells how much it was, unless that is seen. */
async function receiveAll(context: Context, stream: PortStream): Promise<void> {
  const transfer = new Transfer(context.out, `receiving from ${context.args.operands[0]}`);
  const seen = context.world.stdout.isTTY;
  await receive(context, stream, (bytes) => !seen && transfer.add(bytes)).finally(() => transfer.end());
}

/** Prints what the VM sends until it closes the port; `onData` hears how many bytes came. */
async function receive(
  context: Context,
  stream: PortStream,
  onData = (_bytes: number): unknown => undefined,
): Promise<void> {
  const { out, world } = context;
  const [vm, name] = context.args.operands;
  const progress = new Progress(out);
  const limit = context.longTimeout;
  const waits = (elapsedMs: number): void =>
    progress.show(
      `waiting for ${vm} to open port ${name}: ${formatTime(elapsedMs)} of ${formatTime(limit)}`,
      { progress: `waiting for ${vm}`, port: name, elapsedMs, limitMs: limit },
    );
  for (;;) {
    const data = await stream.read(limit, waits).finally(() => progress.clear());
    if (data === undefined) return;
    onData(data.length);
    if (out.json) out.record({ vm, port: name, text: Buffer.from(data).toString("utf8") });
    else if (!world.stdout.write(data)) await new Promise((resolve) => world.stdout.once("drain", resolve));
  }
}

async function attachPipe(context: Context, stream: PortStream): Promise<void> {
  const { world } = context;
  const transfer = new Transfer(context.out, `sending to ${context.args.operands[0]}`, inputSize(world));
  let last = Date.now();
  let sent = false;
  const closed = receive(context, stream, () => void (last = Date.now())).then(() => "closed");
  const send = async (): Promise<string> => {
    for await (const data of world.stdin) {
      await stream.write(Buffer.from(data as Buffer));
      transfer.add((data as Buffer).length);
    }
    await stream.taken(context.timeout);
    transfer.end();
    sent = true;
    last = Date.now();
    while (Date.now() - last < QUIET) await new Promise((resolve) => setTimeout(resolve, 20));
    return "sent";
  };
  const all = send();
  all.catch(() => undefined);
  const first = await Promise.race([closed, all]).finally(() => transfer.end());
  if (first === "sent") return;
  if (sent || stream.waiting === 0) return;
  const [vm, name] = context.args.operands;
  throw new PlinthError({
    code: ErrorCode.FAILED,
    message: `${vm} closed its port '${name}': ${stream.waiting} bytes were not taken`,
    object: vm,
    next: `plinth port ${vm} ${name} --wait`,
  });
}

async function attachPerson(context: Context, stream: PortStream): Promise<void> {
  const { out, world } = context;
  const [vm, name] = context.args.operands;
  out.talk(`port ${name} of ${vm}; leave with ~. at the start of a line, or with Ctrl-]`);
  let fail = (_error: Error): void => undefined;
  const failure = new Promise<string>((_, reject) => (fail = reject));
  failure.catch(() => undefined);
  let typing = Promise.resolve();
  const terminal = attachTerminal(world, (data) => {
    typing = typing.then(() => stream.write(data)).catch(fail);
  });
  const closed = receive(context, stream).then(() => "the VM closed it");
  closed.catch(() => undefined);
  let why = "";
  try {
    why = await Promise.race([closed, terminal.left.then(() => ""), failure]);
  } finally {
    terminal.restore();
    out.talk(`\r\nleft port ${name} of ${vm}${why ? `: ${why}` : ""}`);
  }
}
