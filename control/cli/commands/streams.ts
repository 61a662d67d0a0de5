// The commands that show what happened: logs and events.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import kleur from "kleur";
import type { Message } from "../../protocol/node/cbor";
import { FrameReader } from "../../protocol/node/frame";
import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { oneLine } from "../output";
import { Transfer } from "../progress";
import { QuestionFilter } from "../queries";
import { reconnected } from "../reconnect";
import type { HostEvent } from "../results";
import { formatTime, parseNumber } from "../values";

/** The longest kind of event, control-restarted. */
const KIND_WIDTH = 17;
/** Milliseconds between two looks for something new. */
const POLL = 500;
/** Milliseconds after which a silent watch is renewed: the host may have restarted. */
const RENEW = 2000;

export const logs: Command = {
  name: "logs",
  operands: "[NAME]",
  options: [
    { name: "follow", summary: "go on printing until interrupted" },
    { name: "boot", summary: "what came over the serial line since the rig was started, without frames" },
  ],
  completes: "vm",
  summary: "a VM's console output, or without NAME the host's log",
  examples: ["plinth logs a", "plinth logs", "plinth logs --boot"],
  run: async (context) => {
    const vm = context.args.operands[0];
    if (context.args.has("boot")) {
      if (vm !== undefined)
        throw usageError("--boot is about the host: leave out NAME", "plinth logs --boot");
      return printBootLog(context);
    }
    const client = await context.connect();
    const follow = context.args.has("follow");
    const terminal = context.world.stdout.isTTY;
    const questions = new QuestionFilter();
    const transfer = new Transfer(context.out, vm === undefined ? "the host's log" : `the output of ${vm}`);
    let from = 0;
    for (;;) {
      const chunk = await client.logs(vm, from);
      if (chunk.next < from)
        from = 0; // the VM was started again
      else if (chunk.data.length > 0) {
        if (context.out.json)
          context.out.record({ vm, at: chunk.from, text: Buffer.from(chunk.data).toString("utf8") });
        else context.out.bytes(terminal ? questions.take(chunk.data) : chunk.data);
        if (!terminal) transfer.add(chunk.data.length);
        from = chunk.next;
      } else if (!follow) return transfer.end();
      else await new Promise((resolve) => setTimeout(resolve, POLL));
    }
  },
};

/** The rig keeps everything that came over the line in a file beside its socket. */
function printBootLog(context: Context): void {
  const { address } = context;
  const path = address.kind === "socket" ? join(dirname(address.path), "serial.log") : "";
  if (path === "" || !existsSync(path)) {
    const message = "there is no record of the serial line: only a rig started by 'plinth rig up' keeps one";
    throw new PlinthError({ code: ErrorCode.NOT_FOUND, message, object: path, next: "plinth logs" });
  }
  const text: Uint8Array[] = [];
  const reader = new FrameReader({ message: () => undefined, text: (bytes) => text.push(bytes) });
  reader.feed(readFileSync(path));
  reader.flush();
  const bytes = Buffer.concat(text);
  if (context.out.json) context.out.object({ text: bytes.toString("utf8") });
  else context.out.bytes(context.world.stdout.isTTY ? new QuestionFilter().take(bytes) : bytes);
}

export const events: Command = {
  name: "events",
  operands: "",
  options: [
    { name: "since", value: "N", summary: "only events after number N" },
    { name: "follow", summary: "go on printing until interrupted" },
  ],
  summary: "what happened to the host and its VMs",
  details: "Each has a number: --since goes on behind it, after whatever ended the last look.",
  examples: ["plinth events", "plinth events --json --follow --since 17"],
  run: async (context) => {
    const since = context.args.value("since");
    const printer = new EventPrinter(context, since === undefined ? 0 : parseNumber(since, "--since"));
    await catchUp(await context.connect(), printer);
    while (context.args.has("follow")) await followAttended(context, printer);
  },
};

/** Follows until the host is lost: for a person, until it is there again; else that is an error. */
async function followAttended(context: Context, printer: EventPrinter): Promise<void> {
  const { uptimeMs } = await (await context.connect()).status();
  try {
    await followEvents(await context.connect(), printer);
  } catch (error) {
    const { code, message } = error as PlinthError;
    const next = `plinth events --follow --since ${printer.last}`;
    const { stdin } = context.world;
    if (code !== ErrorCode.UNREACHABLE || !stdin.isTTY) throw new PlinthError({ code, message, next });
    context.out.talk(`plinth: ${message}; trying again`);
    let gone = false; /* Ctrl-D; Ctrl-C ends all of it */
    const left = new Promise<void>((resolve) => stdin.resume().once("end", resolve)).then(
      () => (gone = true),
    );
    const found = await reconnected(context, left, () => gone);
    stdin.pause();
    if (!found) throw new PlinthError({ code, message, next });
    const again = (await (await context.connect()).status()).uptimeMs;
    if (again < uptimeMs) printer.last = 0; /* another boot counts anew */
  }
}

/** Prints each event once, in order. */
class EventPrinter {
  last: number;
  private readonly context: Context;

  constructor(context: Context, since: number) {
    this.context = context;
    this.last = since;
  }

  take(event: HostEvent): void {
    if (event.seq <= this.last) return;
    const lost = event.seq - this.last - 1;
    if (this.last > 0 && lost > 0)
      this.context.out.talk(`plinth: ${lost} events are no longer kept by the host`);
    this.last = event.seq;
    printEvent(this.context, event);
  }
}

/** Prints what the host has after the last event printed. */
async function catchUp(client: Client, printer: EventPrinter): Promise<void> {
  for (;;) {
    const { events: list } = await client.events(printer.last);
    if (list.length === 0) return;
    for (const event of list) printer.take(event);
  }
}

/** Events come as pushes; after every silence they are asked for, so none is lost to noise or to a restart. */
async function followEvents(client: Client, printer: EventPrinter): Promise<void> {
  let wake = (): void => undefined;
  client.line.on("push", (message: Message) => {
    const event = message as unknown as HostEvent;
    if (message.ev !== schema.PUSH_EVENT) return;
    if (event.seq === printer.last + 1) printer.take(event);
    else if (event.seq > printer.last) wake();
  });
  client.line.on("hello", () => wake());
  client.line.on("close", () => wake());
  for (;;) {
    await client.watchEvents(printer.last);
    await catchUp(client, printer);
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer = setTimeout(resolve, RENEW);
    });
    clearTimeout(timer);
  }
}

function printEvent(context: Context, event: HostEvent): void {
  if (context.out.json) return context.out.record(event);
  const at = formatTime(event.at).padStart(12);
  const vm = event.vm ? `${oneLine(event.vm)}: ` : "";
  context.out.line(
    `${String(event.seq).padStart(5)} ${kleur.dim(at)}  ${kleur.bold(oneLine(event.kind).padEnd(KIND_WIDTH))}  ${vm}${oneLine(event.text)}`,
  );
}
