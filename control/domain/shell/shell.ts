// The shell: what a person types on the serial line, and what is printed for it.

import {
  AUDIT_SHELL,
  EVENT_SPEC_ERROR,
  FIELD_DATA,
  FIELD_DEVICES,
  FIELD_EVENTS,
  FIELD_FROM,
  FIELD_HASH,
  FIELD_HEAD,
  FIELD_NEXT,
  FIELD_OP,
  FIELD_RECORDS,
  FIELD_SEQ,
  FIELD_SINCE,
  FIELD_VM,
  OP_AUDIT,
  OP_EVENTS,
  OP_HARDWARE,
  OP_HARDWARE_MITIGATIONS,
  OP_HARDWARE_PCI,
  OP_LOGS,
  OP_POLICY,
  OP_STATUS,
} from "../../protocol/schema";
import { ByteQueue } from "../byte-queue";
import { auditCommand, auditFollow, auditResult } from "../audit";
import { Command, commandRun, isCommand, noSuchVm, Words } from "../commands";
import { Event, lastEvent } from "../events";
import { kernelVersion } from "../host";
import { linePut, Source } from "../line";
import { Fault } from "../outcome";
import { clean, hex, nearest, parseNumber, quoted, utf8 } from "../text";
import { Value } from "../value";
import { BUILD, PRODUCT, VERSION } from "../version";
import { vmFind } from "../vms";
import { commonStart, complete } from "./complete";
import { CONSOLE_HELP, ConsoleKey, HumanConsole } from "./console";
import { Editor, Key } from "./editor";
import {
  formatDevices,
  formatEvent,
  formatFree,
  formatMitigations,
  formatRecord,
  formatResult,
} from "./format";
import {
  CLEAR,
  CONSOLE,
  commandNames,
  findCommand,
  FREE,
  HELP,
  shellCommands,
  VERSION_COMMAND,
} from "./table";
import { requestOf, splitWords } from "./words";

const PROMPT: string = "plinth> ";
const PIECE: u32 = 256;
const INPUT_LIMIT: u32 = 4096;
const OUTPUT_LIMIT: u32 = 65536;
const EVENTS_SHOWN: u64 = 20;
const CTRL_C: u32 = 3;

const output: ByteQueue = new ByteQueue(OUTPUT_LIMIT);
const input: ByteQueue = new ByteQueue(INPUT_LIMIT);
const piece: usize = memory.data(256, 16); /* PIECE */

let console: HumanConsole | null = null;
/** What is being printed piece by piece, a log or the PCI devices: its request; null: nothing. */
let log: Value | null = null;
/** Whether the prompt and the line being typed are on the screen. */
let prompted: bool = false;
let lastByte: u32 = 10;

function putByte(byte: u32): void {
  output.push(byte);
  lastByte = byte;
}

/** Prints text; "\n" becomes what a terminal needs. */
function print(text: string): void {
  const bytes = utf8(text);
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] == 10) putByte(13);
    if (bytes[i] != 0) putByte(bytes[i]);
  }
}

const editor: Editor = new Editor(print);

function prompt(): void {
  if (lastByte != 10) print("\n");
  print(PROMPT);
  editor.redraw();
  prompted = true;
}

/** Prints a line that nobody asked for, without losing what is being typed. */
export function shellNotice(text: string): void {
  const covered = PROMPT.length + editor.line.length;
  if (prompted) print("\r" + text.padEnd(covered, " ") + "\n");
  else print((lastByte != 10 ? "\n" : "") + text + "\n");
  if (prompted) prompt();
}

/** Prints the first prompt. */
export function shellStart(): void {
  prompt();
}

/** An event, told at once if the person cannot have caused it. */
export function shellEvent(event: Event): void {
  if (!prompted || event.kind == EVENT_SPEC_ERROR) return;
  const own =
    event.kind == "vm-running" ||
    event.kind == "vm-failed" ||
    event.kind == "vm-off" ||
    event.kind == "vm-unheard" ||
    event.kind == "vm-ended";
  if (own || event.kind == "vm-crashed" || event.kind == "model-failed" || event.kind == "vm-reset")
    shellNotice(
      "[" + (event.vm != "" && !event.text.startsWith("VM ") ? event.vm + ": " : "") + event.text + "]",
    );
}

function printFault(fault: Fault): void {
  print("error: " + fault.message + "\n");
  if (fault.next != "") print("next:  " + fault.next + "\n");
}

/** A typed byte. */
export function shellReceive(byte: u32): void {
  input.push(byte);
  shellWork();
}

/** Takes typed bytes as long as their output finds room: a slow line slows the typist down, nothing is lost. */
export function shellWork(): void {
  while (input.length > 0 && output.length < OUTPUT_LIMIT / 4) takeByte(input.shift());
}

function takeByte(byte: u32): void {
  const attached = console;
  if (attached != null) {
    takeConsoleByte(attached, byte);
    return;
  }
  if (log != null) {
    if (byte != CTRL_C) return;
    log = null;
    output.clear();
    print("^C\n");
    prompt();
    return;
  }
  switch (editor.take(byte)) {
    case Key.ENTER:
      print("\n");
      prompted = false;
      run(editor.finish());
      if (console == null && log == null) prompt();
      break;
    case Key.TAB:
      completeLine();
      break;
    case Key.INTERRUPT:
      print("^C\n");
      editor.clear();
      prompt();
      break;
    case Key.END_OF_INPUT:
      print("\nThis is the host's console: there is nothing to leave. Type help.\n");
      prompt();
      break;
    case Key.REDRAW:
      print("\n");
      prompt();
      break;
    default:
  }
}

function takeConsoleByte(attached: HumanConsole, byte: u32): void {
  switch (attached.take(byte)) {
    case ConsoleKey.LEAVE:
      console = null;
      output.clear();
      print("\n[left the console of VM " + quoted(attached.name) + "]\n");
      prompt();
      break;
    case ConsoleKey.HELP:
      print(CONSOLE_HELP);
      break;
    case ConsoleKey.REFUSED:
      print("\x07");
      break;
    default:
  }
}

function completeLine(): void {
  const found = complete(editor.before);
  if (found.choices.length == 0) {
    print("\x07");
    return;
  }
  const start = commonStart(found.choices);
  if (start.length > found.typed) {
    editor.insert(start.substring(found.typed));
    return;
  }
  let list = "";
  for (let i = 0; i < found.choices.length; i++) {
    if (i > 0 && (i & 3) == 0) list += "\n";
    list += found.choices[i].trimEnd().padEnd(19, " ");
  }
  print("\n" + list + "\n");
  prompt();
}

function run(line: string): void {
  const words = splitWords(line);
  if (words.length == 0) return;
  const name = words[0] == "?" ? HELP : words[0];
  const command = findCommand(name);
  if (command == null) {
    printNoCommand(name);
    return;
  }
  if (name == HELP) {
    help(words.length > 1 ? words[1] : "");
    return;
  }
  const request = requestOf(command, words);
  if (request.fault != null) printFault(request.fault!);
  else perform(command, words, request.result!);
}

function printNoCommand(name: string): void {
  if (name == "exit" || name == "quit" || name == "logout") {
    print(
      "error: the host's own shell does not end\nnext:  ~. after Enter, or Ctrl-], leaves plinth shell\n",
    );
    return;
  }
  const near = nearest(name, commandNames());
  print("error: there is no command " + quoted(name) + "\n");
  print(near != "" ? "next:  did you mean " + near + "? help lists all commands\n" : "next:  help\n");
}

function perform(command: Command, words: string[], request: Value): void {
  const name = command.name;
  if (name == CONSOLE) attach(request.getText(FIELD_VM));
  else if (name == FREE) print(formatFree(commandRun(OP_STATUS, request)!.result!));
  else if (name == VERSION_COMMAND)
    print(PRODUCT + " " + VERSION + " (" + BUILD + "); kernel " + kernelVersion() + "\n");
  else if (name == CLEAR) print("\x1b[H\x1b[2J");
  else if (command.op == OP_LOGS) startLog(request);
  else if (command.op == OP_AUDIT) printAudit(words.length > 1 ? parseNumber(words[1]) : EVENTS_SHOWN);
  else if (command.op == OP_POLICY) printPages(command, request);
  else if (command.op == OP_EVENTS) printEvents(words.length > 1 ? parseNumber(words[1]) : EVENTS_SHOWN);
  else {
    if (command.op == OP_HARDWARE) log = Value.map().putText(FIELD_OP, OP_HARDWARE_PCI);
    if (isCommand(command.op)) auditFollow();
    const outcome = command.run(request);
    if (isCommand(command.op)) auditCommand(AUDIT_SHELL, command.op, request, outcome);
    if (outcome.fault != null) printFault(outcome.fault!);
    else print(formatResult(command.op, outcome.result!));
    if (command.op == OP_HARDWARE)
      print(formatMitigations(commandRun(OP_HARDWARE_MITIGATIONS, request)!.result!));
  }
}

/** Prints a result that comes in pieces. */
function printPages(command: Command, request: Value): void {
  for (let from: u64 = 0; ;) {
    const outcome = command.run(request.putUint(FIELD_FROM, from));
    if (outcome.fault != null) return printFault(outcome.fault!);
    print(formatResult(command.op, outcome.result!));
    const next = outcome.result!.getUint(FIELD_NEXT);
    if (next <= from) return;
    from = next;
    request.keys.pop();
    request.items.pop();
  }
}

function help(name: string): void {
  if (name == "") {
    const all = shellCommands();
    for (let i = 0; i < all.length; i++) print(all[i].name.padEnd(10, " ") + all[i].summary + "\n");
    print("Tab completes, arrows edit and recall. help COMMAND says how to use one.\n");
    return;
  }
  const command = findCommand(name);
  if (command == null) {
    printNoCommand(name);
    return;
  }
  print("usage: " + command.usage + "\n       " + command.summary + "\n");
  if (command.words == Words.SPEC)
    print(
      "  memory=  like 128M or 1G          kernel=, initrd=  names from images\n" +
        "  balloon= what its balloon leaves it of that from the start\n" +
        "  firmware= like seabios: starts from a disk, instead of kernel=\n" +
        "  disk=    an image, copied for the VM; disk=IMAGE,ro: read-only; disk=IMAGE,cd: a CD\n" +
        "  boot=    auto, linux, linux32, pvh, multiboot or multiboot2\n" +
        '  module=  an image for the kernel; module="IMAGE,COMMAND LINE"; may be given again\n' +
        "  debugexit=yes  a write to port 0xf4 ends it with an exit code\n" +
        "  network= a card on a network of two; network=NAME,MAC: with this address; again for more\n" +
        "  port=    a named port beside the console; may be given again\n" +
        "  rings=   split: no packed virtio rings\n" +
        "  console= serial (ttyS0) or virtio (hvc0)\n" +
        "  cmdline= in quotes if it has spaces\n" +
        "  restart= never, on-failure or always, at most max= times in window= seconds\n" +
        "  tenant=  whose it is      tags=A,B  for lists      protected=yes  rm and stop need a word\n" +
        "  start=no only adds it\n",
    );
}

function attach(name: string): void {
  if (vmFind(name) == null) {
    printFault(noSuchVm(name));
    return;
  }
  const attached = new HumanConsole(name);
  console = attached;
  print(attached.banner);
}

function startLog(request: Value): void {
  const outcome = commandRun(OP_LOGS, request)!;
  if (outcome.fault != null) printFault(outcome.fault!);
  else log = Value.map().putText(FIELD_VM, request.getText(FIELD_VM)).putUint(FIELD_FROM, 0);
}

function printEvents(count: i64): void {
  const wanted = <u64>max<i64>(count, 1);
  let since: u64 = lastEvent() > wanted ? lastEvent() - wanted : 0;
  for (;;) {
    const page = commandRun(OP_EVENTS, Value.map().putUint(FIELD_SINCE, since))!.result!;
    const events = page.getList(FIELD_EVENTS);
    if (events.length == 0) break;
    for (let i = 0; i < events.length; i++) print(formatEvent(events[i]));
    since = page.getUint(FIELD_NEXT);
  }
}

/** The newest records of the audit log, and the hash that stands for all there ever were. */
function printAudit(count: i64): void {
  const end = Value.map().putUint(FIELD_FROM, (<u64>1) << 52);
  const head = auditResult(end).result!.get(FIELD_HEAD)!;
  const newest = head.getUint(FIELD_SEQ);
  const wanted = <u64>max<i64>(count, 1);
  let from: u64 = newest > wanted ? newest - wanted + 1 : 1;
  while (from <= newest) {
    const page = auditResult(Value.map().putUint(FIELD_FROM, from)).result!;
    const records = page.getList(FIELD_RECORDS);
    for (let i = 0; i < records.length; i++) print(formatRecord(records[i].blob));
    from = page.getUint(FIELD_NEXT, newest + 1);
  }
  print("hash of record " + newest.toString() + ": " + hex(head.get(FIELD_HASH)!.blob) + "\n");
}

/** Prints raw bytes of a VM or the log; a 0x00 would open a frame. */
function printRaw(data: usize, length: u32, isLog: bool): void {
  for (let i: u32 = 0; i < length; i++) {
    const byte = <u32>load<u8>(data + i);
    if (byte == 0) continue;
    if (isLog && byte == 10 && lastByte != 13) putByte(13);
    putByte(byte);
  }
}

/** The next PCI devices: many buses have none. */
function continueDevices(request: Value): void {
  const page = commandRun(OP_HARDWARE_PCI, request)!.result!;
  print(formatDevices(page));
  log = null;
  if (page.get(FIELD_NEXT) == null) {
    prompt();
    return;
  }
  const rest = Value.map().putText(FIELD_OP, OP_HARDWARE_PCI).putUint(FIELD_FROM, page.getUint(FIELD_NEXT));
  if (page.getList(FIELD_DEVICES).length == 0) continueDevices(rest);
  else log = rest;
}

/** The next piece of the log being printed. */
function continueLog(request: Value): void {
  const page = commandRun(OP_LOGS, request)!.result;
  const data = page != null ? page.get(FIELD_DATA) : null;
  if (data == null || data.blob.length == 0) {
    log = null;
    prompt();
    return;
  }
  printRaw(changetype<usize>(data.blob), data.blob.length, true);
  log = Value.map()
    .putText(FIELD_VM, request.getText(FIELD_VM))
    .putUint(FIELD_FROM, page!.getUint(FIELD_NEXT));
}

/** The next piece of the console. */
function continueConsole(attached: HumanConsole): void {
  const cursor = attached.cursor;
  const length = cursor.read(piece, PIECE);
  if (cursor.renewed) attached.told = false;
  if (cursor.skipped > 0) print("\n[... " + cursor.skipped.toString() + " bytes skipped ...]\n");
  printRaw(piece, length, false);
  if (length > 0 || attached.told) return;
  const vm = vmFind(attached.name);
  if (vm != null && !vm.ended) return;
  attached.told = true;
  const state = vm == null ? "removed" : vm.state + ": " + clean(vm.reason, 60);
  print("\n[VM " + quoted(attached.name) + " is " + state + "; ~. leaves]\n");
}

/** The person's share of the line. */
class ShellSource extends Source {
  pull(): bool {
    if (output.length == 0) this.produce();
    if (output.length == 0) return false;
    for (let i: u32 = 0; i < PIECE && output.length > 0; i++) linePut(output.shift());
    if (input.length > 0) shellWork();
    return true;
  }

  private produce(): void {
    const request = log;
    const attached = console;
    if (request != null && request.getText(FIELD_OP) == OP_HARDWARE_PCI) continueDevices(request);
    else if (request != null) continueLog(request);
    else if (attached != null) continueConsole(attached);
  }
}

export const shellSource: Source = new ShellSource();
