// The shell: what a person types on the serial line, and what is printed for it.

import {
  AUDIT_SHELL,
  EVENT_SPEC_ERROR,
  FIELD_DATA,
  FIELD_DEVICES,
  FIELD_FORCE,
  FIELD_FROM,
  FIELD_MAX,
  FIELD_NEXT,
  FIELD_OP,
  FIELD_READ_ONLY,
  FIELD_SPEC,
  FIELD_TENANTS,
  FIELD_VM,
  FIELD_WAIT,
  OP_AUDIT,
  OP_EVENTS,
  OP_HARDWARE,
  OP_HARDWARE_MITIGATIONS,
  OP_HARDWARE_PCI,
  OP_LOGS,
  OP_POLICY,
  OP_SNAPSHOT_LS,
  OP_STATUS,
  OP_TENANT_RM,
  OP_TENANT_SET,
  OP_TOP,
} from "../../protocol/schema";
import { ByteQueue } from "../byte-queue";
import { auditBegin, auditCommand } from "../audit";
import { consoleHold, SHELL_SESSION } from "../console-hold";
import { Command, commandRun, isCommand, noSuchVm } from "../commands";
import { Event, eventAfter, lastEvent } from "../events";
import { kernelVersion } from "../host";
import { Source } from "../line";
import { Fault } from "../outcome";
import { clean, nearest, quoted } from "../text";
import { Value } from "../value";
import { BUILD, PRODUCT, VERSION } from "../version";
import { vmFind } from "../vms";
import { commonStart, complete } from "./complete";
import { CONSOLE_HELP, ConsoleKey, HumanConsole } from "./console";
import { Editor, Key } from "./editor";
import { formatDevices, formatEvent, formatFree, formatMitigations, formatResult } from "./format";
import { helpText } from "./help";
import { EVENTS_SHOWN, missingEvents, printAudit, printEvents } from "./history";
import {
  askTerminal,
  atLineStart,
  outputClear,
  outputLength,
  OUTPUT_LIMIT,
  pagerBegin,
  pagerEnd,
  pagerHolds,
  pagerOff,
  pagerTake,
  pagerWaits,
  print,
  printRaw,
  screenEmpty,
  screenPull,
  terminal,
  terminalTake,
  terminalTick,
} from "./screen";
import { CLEAR, CONSOLE, commandNames, findCommand, FREE, HELP, VERSION_COMMAND } from "./table";
import { TOP_INTERVAL, TopScreen } from "./top";
import { requestOf, splitWords } from "./words";

const PROMPT: string = "plinth> ";
const PIECE: u32 = 256;
const INPUT_LIMIT: u32 = 4096;
const CTRL_C: u32 = 3;
const ESC: u32 = 27;
const KEY_T: u32 = 0x74;
/** So often a terminal that had answered may not answer; then nobody is there who looks at `top`. */
const MISSED_ANSWERS = 3;

const input: ByteQueue = new ByteQueue(INPUT_LIMIT);
const piece: usize = memory.data(256, 16); /* PIECE */

let console: HumanConsole | null = null;
/** What is being printed piece by piece, a log or the PCI devices: its request; null: nothing. */
let log: Value | null = null;
let top: TopScreen | null = null;
/** `events --follow`: the last event that was printed; -1: it is not under way. */
let followed: i64 = -1;
/** Whether the prompt and the line being typed are on the screen. */
let prompted: bool = false;

const editor: Editor = new Editor(print);

function prompt(): void {
  if (!atLineStart()) print("\n");
  print(PROMPT);
  editor.redraw();
  prompted = true;
}

/** Prints a line that nobody asked for, without losing what is being typed. */
export function shellNotice(text: string): void {
  const covered = PROMPT.length + editor.line.length;
  if (prompted) print("\r" + text.padEnd(covered, " ") + "\n");
  else print((atLineStart() ? "" : "\n") + text + "\n");
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

/** A typed byte, or one of a terminal's answer. */
export function shellReceive(byte: u32): void {
  if (console != null && !terminal.asked) input.push(byte);
  else takeTyped(terminalTake(byte));
  shellWork();
}

function takeTyped(bytes: u32[]): void {
  for (let i = 0; i < bytes.length; i++) input.push(bytes[i]);
}

/** Takes typed bytes as long as their output finds room: a slow line slows the typist down, nothing is lost. */
function shellWork(): void {
  while (input.length > 0 && !pagerWaits() && (pagerHolds() || outputLength() < OUTPUT_LIMIT / 4))
    takeByte(input.shift());
}

/** Does what is due. Returns when it must be called again (uptime in ms). */
export function shellTick(now: u64): u64 {
  if (terminal.asked) takeTyped(terminalTick(now));
  shellWork();
  const screen = top;
  const due = screen != null ? drawTop(screen, now) : u64.MAX_VALUE;
  return terminal.asked ? min(due, terminal.deadline) : due;
}

/** Draws `top` if it is time. Returns when it is the next time. */
function drawTop(screen: TopScreen, now: u64): u64 {
  if (now < screen.due) return screen.due;
  if (terminal.asked || !screenEmpty()) return u64.MAX_VALUE; // it answers, or the line sends
  if (screen.isDrawn && terminal.rows == 0) {
    if (++screen.missed == MISSED_ANSWERS) {
      endLive("[top has ended: the terminal does not answer]\n");
      return u64.MAX_VALUE;
    }
    screen.due = now + TOP_INTERVAL;
  } else {
    screen.missed = 0;
    print(screen.draw(terminal.rows, terminal.columns));
  }
  if (screen.isDrawn) askTerminal();
  return screen.due;
}

/** `top` or `events --follow` is over. */
function endLive(text: string): void {
  top = null;
  followed = -1;
  print(text);
  prompt();
}

/** A key while `top` or `events --follow` is under way. */
function takeLiveKey(byte: u32): void {
  const screen = top;
  if (screen != null && byte == KEY_T) {
    print(screen.toggle(terminal.rows, terminal.columns));
    return;
  }
  endLive("");
  // The rest of an arrow's sequence follows.
  if (byte == ESC) editor.take(byte);
}

function takeByte(byte: u32): void {
  if (pagerHolds()) {
    if (pagerTake(byte) && log != null) finish();
    return;
  }
  const attached = console;
  if (attached != null) {
    takeConsoleByte(attached, byte);
    return;
  }
  if (log != null) {
    if (byte != CTRL_C) return;
    outputClear();
    print("^C\n");
    finish();
    return;
  }
  if (top != null || followed >= 0) {
    takeLiveKey(byte);
    return;
  }
  switch (editor.take(byte)) {
    case Key.ENTER:
      print("\n");
      prompted = false;
      pagerBegin();
      run(editor.finish());
      if (console == null && top == null && followed < 0 && log == null) finish();
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
      terminal.silent = false;
      print("\n");
      prompt();
      break;
    default:
  }
}

function takeConsoleByte(attached: HumanConsole, byte: u32): void {
  switch (attached.take(byte)) {
    case ConsoleKey.LEAVE:
      attached.close();
      console = null;
      outputClear();
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
    const asked = words.length > 1 ? words[1] : "";
    if (asked == "" || findCommand(asked) != null) print(helpText(asked));
    else printNoCommand(asked);
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
  if (name == CONSOLE) attach(request);
  else if (name == FREE) print(formatFree(commandRun(OP_STATUS, request)!.result!));
  else if (name == VERSION_COMMAND)
    print(PRODUCT + " " + VERSION + " (" + BUILD + "); kernel " + kernelVersion() + "\n");
  else if (name == CLEAR) print("\x1b[H\x1b[2J");
  else if (command.op == OP_LOGS) startLog(request);
  else if (command.op == OP_AUDIT) printAudit(request.getUint(FIELD_MAX, EVENTS_SHOWN));
  else if (command.op == OP_POLICY) printPages(command, request);
  else if (request.getText(FIELD_OP) == OP_SNAPSHOT_LS) printPages(command, request);
  else if (command.op == OP_EVENTS) startEvents(request);
  else if (command.op == OP_TOP) startTop(request.getBool(FIELD_TENANTS));
  else {
    if (command.op == OP_HARDWARE) log = Value.map().putText(FIELD_OP, OP_HARDWARE_PCI);
    const named = request.getText(FIELD_OP, command.op);
    const op = named == OP_TENANT_SET && request.get(FIELD_SPEC) == null ? OP_TENANT_RM : named;
    if (isCommand(op)) auditBegin();
    const outcome = commandRun(op, request)!;
    if (isCommand(op)) auditCommand(AUDIT_SHELL, op, request, outcome);
    if (outcome.fault != null) printFault(outcome.fault!);
    else print(formatResult(op, outcome.result!));
    if (op == OP_HARDWARE) print(formatMitigations(commandRun(OP_HARDWARE_MITIGATIONS, request)!.result!));
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

function attach(request: Value): void {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  const readOnly = request.getBool(FIELD_READ_ONLY);
  const fault =
    vm == null
      ? noSuchVm(name)
      : readOnly
        ? null
        : consoleHold(vm, SHELL_SESSION, "", request.getBool(FIELD_FORCE));
  if (fault != null) {
    printFault(fault);
    return;
  }
  const attached = new HumanConsole(name, readOnly);
  console = attached;
  pagerOff();
  print(attached.banner);
}

function startTop(tenants: bool): void {
  const screen = new TopScreen(tenants);
  top = screen;
  pagerOff();
  if (!terminal.silent) askTerminal();
}

function startEvents(request: Value): void {
  printEvents(request);
  if (!request.getBool(FIELD_WAIT)) return;
  pagerOff();
  print("(any key ends it)\n");
  followed = lastEvent();
}

function startLog(request: Value): void {
  const outcome = commandRun(OP_LOGS, request)!;
  if (outcome.fault != null) printFault(outcome.fault!);
  else log = Value.map().putText(FIELD_VM, request.getText(FIELD_VM)).putUint(FIELD_FROM, 0);
}

/** All of a command is printed. */
function finish(): void {
  log = null;
  pagerEnd();
  prompt();
}

/** The next PCI devices: many buses have none. */
function continueDevices(request: Value): void {
  const page = commandRun(OP_HARDWARE_PCI, request)!.result!;
  print(formatDevices(page));
  if (page.get(FIELD_NEXT) == null) {
    finish();
    return;
  }
  const rest = Value.map().putText(FIELD_OP, OP_HARDWARE_PCI).putUint(FIELD_FROM, page.getUint(FIELD_NEXT));
  log = rest;
  if (page.getList(FIELD_DEVICES).length == 0) continueDevices(rest);
}

/** The next piece of the log being printed. */
function continueLog(request: Value): void {
  const page = commandRun(OP_LOGS, request)!.result;
  const data = page != null ? page.get(FIELD_DATA) : null;
  if (data == null || data.blob.length == 0) {
    finish();
    return;
  }
  printRaw(changetype<usize>(data.blob), data.blob.length, true);
  log = Value.map()
    .putText(FIELD_VM, request.getText(FIELD_VM))
    .putUint(FIELD_FROM, page!.getUint(FIELD_NEXT));
}

/** The next event of `events --follow`. */
function followEvents(): void {
  const event = eventAfter(followed);
  if (event == null) return;
  print(missingEvents(event, followed));
  followed = event.seq;
  print(formatEvent(event.toValue()));
}

/** The next piece of the console. */
function continueConsole(attached: HumanConsole): void {
  const cursor = attached.cursor;
  const length = cursor.read(piece, PIECE);
  if (cursor.renewed) attached.told = false;
  if (cursor.skipped > 0) print("\n[... " + cursor.skipped.toString() + " bytes skipped ...]\n");
  printRaw(piece, length, false);
  const taker = attached.taker();
  if (taker != "")
    print(
      "\n[" +
        taker +
        " types into the console of VM " +
        quoted(attached.name) +
        " now: you watch; ~. leaves]\n",
    );
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
    if (screenEmpty()) this.produce();
    const sent = screenPull();
    shellWork();
    return sent;
  }

  private produce(): void {
    const request = log;
    const attached = console;
    if (request != null && request.getText(FIELD_OP) == OP_HARDWARE_PCI) continueDevices(request);
    else if (request != null) continueLog(request);
    else if (attached != null) continueConsole(attached);
    else if (followed >= 0) followEvents();
  }
}

export const shellSource: Source = new ShellSource();
