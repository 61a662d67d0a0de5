// A device model for testing the control domain: it boots nothing, echoes keys, and does what a line says.
//
// Lines typed into its console: off, reset, ended, error, trap, flood, garbage, silent, print; and of its first port
// ignore (the power button), open, close, pour (5,000 bytes), deaf: while it is open and not deaf it sends back what comes. Anything else is
// echoed. What the configuration holds is printed at the start.

import { channelBind, vcpuStart } from "../../../control/lib/binding";
import { CborReader, CborWriter, cborValid } from "../../../control/lib/cbor";
import { ModelLink, ModelPort, readConfig } from "../../../control/lib/link";
import { TextBuffer } from "../../../control/lib/text";
import { CAP_LINK, CAP_VCPU, ExitType, GPA_SHARED, Reply } from "../../../control/gen/abi";
import { ExitMessage } from "../../../control/gen/layout";

const EVENT_LINK: u32 = 17;
const link = new ModelLink(GPA_SHARED, CAP_LINK);
const port = new ModelPort(GPA_SHARED, 0);
let portSession: u32 = 0;
let hostSession: u32 = 0;
let portWanted: u32 = 0;
let portPours: u32 = 0;
let portDeaf: bool = false;
let ignoresButton: bool = false;
const exit: usize = memory.data(320, 16);
const bytes: usize = memory.data(4096, 16);
const input: usize = memory.data(256, 16);
let line: string = "";

export function exitBuffer(): usize {
  return exit;
}

export function onExit(index: u32): void {
  const message = changetype<ExitMessage>(exit);
  message.reply = Reply.ADVANCE;
  message.reply_length = message.length;
  if (message.type == ExitType.SHUTDOWN) ended("triple fault");
}

function print(text: string): void {
  const data = String.UTF8.encode(text);
  link.consoleOut.write(changetype<usize>(data), data.byteLength);
}

function open(kind: string, pairs: u32): CborWriter {
  const writer = new CborWriter(bytes, 4096);
  writer.map(pairs);
  writer.text("t");
  writer.text(kind);
  return writer;
}

function send(writer: CborWriter): void {
  link.events.send(bytes, writer.length);
  link.signal();
}

function ended(reason: string): void {
  const writer = open("ended", 3);
  writer.text("reason");
  writer.text(reason);
  writer.text("value");
  writer.uint(0);
  send(writer);
}

function error(): void {
  const writer = open("error", 4);
  writer.text("object");
  writer.text("linux");
  writer.text("message");
  writer.text("the kernel image is truncated");
  writer.text("next");
  writer.text("plinth images");
  send(writer);
}

export function init(): void {
  channelBind(CAP_LINK, EVENT_LINK);
  const length = readConfig(GPA_SHARED, bytes);
  assert(length > 0 && cborValid(bytes, length), "no configuration");
  const reader = new CborReader(bytes, length);
  assert(reader.find("cmdline"), "no command line");
  const cmdline = reader.text();
  print("model up: " + cmdline + "\r\n");
  if (cmdline.includes("fail-early")) error();
  else if (cmdline.includes("trap-early")) assert(false, "asked to trap early");
  else if (!cmdline.includes("never-ready")) send(open("ready", 1));
}

function command(what: string): void {
  if (what == "off") send(open("off", 1));
  else if (what == "exit") sendExit();
  else if (what == "reset") send(open("reset", 1));
  else if (what == "ended") ended("triple fault");
  else if (what == "trap") assert(false, "asked to trap");
  else if (what == "flood") flood();
  else if (what == "open" || what == "close") portWanted = what == "open" ? 1 : 0;
  else if (what == "pour") portPours = 5000;
  else if (what == "deaf") portDeaf = true;
  else if (what == "ignore") ignoresButton = true;
  else if (what == "garbage") for (let i = 0; i < 40; i++) garbage(i);
  else print("you said: " + what + "\r\n");
}

function sendExit(): void {
  const writer = open("off", 2);
  writer.text("value");
  writer.uint(33);
  send(writer);
}

/** 150 KB without allocating: a device model has little memory. */
function flood(): void {
  const text = new TextBuffer(bytes, 64);
  for (let i = 0; i < 5000; i++) {
    text.clear().text("line ").uint(i).text(" of a flood of lines\r\n");
    link.consoleOut.write(bytes, text.length);
  }
}

function garbage(seed: i32): void {
  for (let i = 0; i < 64; i++) store<u8>(bytes + i, <u8>(seed * 37 + i * 101 + ((seed * i) >> 3)));
  link.events.send(bytes, 64);
  link.signal();
}

/** Sends back what came by the port, after what it pours; nothing while it is deaf or the port closed. */
function servePort(): void {
  if (port.hostSession != hostSession) {
    hostSession = port.hostSession;
    port.in.skipTo(port.hostFirst);
    print("port session " + (hostSession & 1 ? "begins" : "ends") + "\r\n");
  }
  for (; portPours > 0 && port.out.room > 0; portPours--) {
    store<u8>(input, <u8>(33 + (portPours % 90)));
    port.out.write(input, 1);
  }
  if (portPours == 0 && (portSession & 1) != portWanted) port.session = ++portSession;
  while (!portDeaf && portSession & 1 && portPours == 0) {
    const count = port.in.read(input, min<u32>(256, port.out.room));
    if (count == 0) break;
    port.out.write(input, count);
  }
}

function readKeys(): void {
  let count = link.consoleIn.read(input, 256);
  while (count > 0) {
    for (let i: u32 = 0; i < count; i++) {
      const key = load<u8>(input + i);
      if (key == 13) {
        print("\r\n");
        const what = line;
        line = "";
        command(what);
      } else {
        line += String.fromCharCode(key);
        print(String.fromCharCode(key));
      }
    }
    count = link.consoleIn.read(input, 256);
  }
}

export function onEvents(bits: u64): void {
  let length = link.commands.receive(bytes, 4096);
  while (length > 0) {
    const reader = new CborReader(bytes, length);
    const whole = reader.copy();
    assert(reader.find("t"), "a command without a kind");
    const what = reader.text();
    if (what == "run") vcpuStart(CAP_VCPU);
    else if (what == "powerbutton") send(open(ignoresButton ? "unheard" : "off", 1));
    else if (what == "trap") assert(false, "told to trap");
    else if (what == "reborn" && whole.find("name")) print("reborn as " + whole.text() + "\r\n");
    else if (what == "balloon" && whole.find("value")) print("balloon " + whole.uint().toString() + "\r\n");
    length = link.commands.receive(bytes, 4096);
  }
  readKeys();
  servePort();
  link.signal();
}
