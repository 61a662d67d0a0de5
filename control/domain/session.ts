// A program at the other end of the line: its requests, and what is pushed to it.

import {
  AUDIT_PROGRAM,
  ErrorCode,
  FIELD_AT,
  FIELD_BUILD,
  FIELD_CODE,
  FIELD_DATA,
  FIELD_EPOCH,
  FIELD_ERROR,
  FIELD_EV,
  FIELD_FORCE,
  FIELD_FROM,
  FIELD_ID,
  FIELD_KIND,
  FIELD_MESSAGE,
  FIELD_NEXT,
  FIELD_OBJECT,
  FIELD_OK,
  FIELD_OLDEST,
  FIELD_OP,
  FIELD_PRODUCT,
  FIELD_RESULT,
  FIELD_SEQ,
  FIELD_SESSION,
  FIELD_SINCE,
  FIELD_SIZE,
  FIELD_TEXT,
  FIELD_VERSION,
  FIELD_VM,
  FIELD_WHO,
  OP_BULK_CLOSE,
  OP_CONSOLE_ATTACH,
  OP_CONSOLE_DETACH,
  OP_CONSOLE_HOLD,
  OP_CONSOLE_WRITE,
  OP_EVENTS_WATCH,
  OP_HELLO,
  OP_TEST_REBORN,
  OP_TEST_TRAP_MODEL,
  OP_PORT_ATTACH,
  OP_PORT_DETACH,
  OP_PORT_READ,
  OP_PORT_WRITE,
  Protocol,
  PUSH_CONSOLE,
  PUSH_EVENT,
  PUSH_READY,
} from "../protocol/schema";
import { auditBegin, auditCommand } from "./audit";
import { commandRun, isCommand, noSuchVm } from "./commands";
import { consoleHold, consoleRefuses, consoleRelease } from "./console-hold";
import { Cursor } from "./cursor";
import { eventAfter } from "./events";
import { frameDecode, frameSend, ReplySource } from "./frames";
import { info } from "./host";
import { bulkLine, Line, Listener, mainLine, Source } from "./line";
import { Fault, Outcome } from "./outcome";
import { portAttach, portDetach, PortPush, portRead, portWrite } from "./ports";
import { tenantsAll } from "./tenants";
import { clean, quoted, utf8 } from "./text";
import { Kind, Value } from "./value";
import { BUILD, PRODUCT, VERSION } from "./version";
import { vmFind } from "./vms";

/** Console output in one push: small, so that other sources get their turn soon. */
const PUSH_SIZE: u32 = 512;

const replies: ReplySource = new ReplySource(mainLine);
const piece: usize = memory.data(512, 16); /* PUSH_SIZE */

/** Pushes what a VM prints. */
class ConsolePush {
  cursor: Cursor;
  /** When it had its last turn. */
  served: u64 = 0;

  constructor(name: string) {
    this.cursor = new Cursor(name);
  }

  push(): bool {
    const length = this.cursor.read(piece, PUSH_SIZE);
    if (length == 0) return false;
    const data = new StaticArray<u8>(length);
    memory.copy(changetype<usize>(data), piece, length);
    return frameSend(
      Value.map()
        .putText(FIELD_EV, PUSH_CONSOLE)
        .putText(FIELD_VM, this.cursor.name)
        .putUint(FIELD_AT, this.cursor.position - length)
        .put(FIELD_DATA, Value.bytes(data)),
    );
  }
}

/** Pushes events. */
class EventPush extends Source {
  since: u64 = 0;
  on: bool = false;

  pull(): bool {
    if (!this.on || replies.busy) return false;
    const event = eventAfter(this.since);
    if (event == null || endsUnheard(event.vm)) return false;
    this.since = event.seq;
    return frameSend(
      Value.map()
        .putText(FIELD_EV, PUSH_EVENT)
        .putUint(FIELD_SEQ, event.seq)
        .putUint(FIELD_AT, event.at)
        .putText(FIELD_KIND, event.kind)
        .putText(FIELD_VM, event.vm)
        .putText(FIELD_TEXT, event.text),
    );
  }
}

const consoles: ConsolePush[] = [];

/** How far a tenant is behind the one in place `last`, going around; its next one: 0. */
function tenantsBehind(last: i32, name: string): i32 {
  const all = tenantsAll();
  for (let n = 0; n < all.length; n++) if (all[(last + 1 + n) % all.length].name == name) return n;
  return all.length - 1;
}

/** What VMs print: tenants take turns, and the VMs of each, so that no tenant gets more of the line with more VMs. */
class ConsolesPush extends Source {
  private tenant: i32 = 0;
  private turn: u64 = 0;

  get isBulk(): bool {
    return true;
  }

  pull(): bool {
    if (consoles.length == 0 || replies.busy) return false;
    let best: ConsolePush | null = null;
    let bestRank = i32.MAX_VALUE;
    for (let i = 0; i < consoles.length; i++) {
      const one = consoles[i];
      const vm = one.cursor.pending > 0 ? vmFind(one.cursor.name) : null;
      if (vm == null) continue;
      // How far behind the tenant that had the last turn.
      const rank = tenantsBehind(this.tenant, vm.spec.tenant);
      if (best != null && (rank > bestRank || (rank == bestRank && one.served > best.served))) continue;
      best = one;
      bestRank = rank;
    }
    if (best == null) return false;
    this.tenant = (this.tenant + 1 + bestRank) % tenantsAll().length;
    best.served = ++this.turn;
    return best.push();
  }
}

/** A VM has ended, and some of what it printed is still to be told: that comes before the news of its end. */
function endsUnheard(name: string): bool {
  const vm = vmFind(name);
  const at = findConsole(name);
  return vm != null && !vm.alive && at >= 0 && consoles[at].cursor.pending > 0;
}

const watcher: EventPush = new EventPush();

/** Joins the lines; `text` gets each byte outside frames on the main one, on the other they are nobody's. */
export function sessionStart(text: (byte: u32) => void): void {
  mainLine.listen(new Session(replies, text));
  mainLine.add(replies);
  mainLine.add(watcher);
  mainLine.add(new PortPush());
  mainLine.add(new ConsolesPush());
  const bulkReplies = new ReplySource(bulkLine);
  bulkSession = new Session(bulkReplies, null);
  bulkLine.listen(bulkSession!);
  bulkLine.add(bulkReplies);
}

/** The replies to the last changes, by request id: a request that comes again gets its reply, not its effect. */
const REMEMBERED = 16;
const doneIds: u64[] = [];
const doneOps: string[] = [];
const doneReplies: Value[] = [];

function remembered(id: u64, op: string): Value | null {
  for (let i = 0; i < doneIds.length; i++) if (doneIds[i] == id && doneOps[i] == op) return doneReplies[i];
  return null;
}

function remember(id: u64, op: string, reply: Value): void {
  if (id == 0 || !isChange(op)) return;
  if (doneIds.length == REMEMBERED) {
    doneIds.shift();
    doneOps.shift();
    doneReplies.shift();
  }
  doneIds.push(id);
  doneOps.push(op);
  doneReplies.push(reply);
}

/** Whether doing it twice differs from doing it once. */
function isChange(op: string): bool {
  return isCommand(op) || op == OP_CONSOLE_WRITE || op == OP_TEST_TRAP_MODEL || op == OP_TEST_REBORN;
}

/** A change that is asked for again, and whose first request may have been done by a predecessor. */
function isLate(op: string, request: Value): bool {
  return isChange(op) && request.getUint(FIELD_EPOCH, info().restarts) != info().restarts;
}

function lostFault(op: string, request: Value): Fault {
  const name = clean(request.getText(FIELD_VM), 60);
  const text =
    "the control domain was restarted before it answered " + quoted(op) + ": it may have been done or not";
  return new Fault(ErrorCode.UNREACHABLE, text, name, name != "" ? "show " + name : "ls");
}

let bulkSession: Session | null = null;

/** A line's requests and their replies. Both lines have the same authority; what is pushed goes to the main one. */
class Session extends Listener {
  /** Of the bulk line: someone has said hello on it, and nobody has given it up since. */
  isOpen: bool = false;

  constructor(
    private replies: ReplySource,
    /** null: the bulk line. */
    private typed: ((byte: u32) => void) | null,
  ) {
    super();
  }

  text(byte: u32): void {
    const typed = this.typed;
    if (typed != null) typed(byte);
  }

  /** A program asks whether anybody is here, before it sends what a boot loader could take for keys. */
  probe(): void {
    this.replies.push(Value.map().putText(FIELD_EV, PUSH_READY));
  }

  frame(at: usize, length: u32): bool {
    const replies = this.replies;
    const request = frameDecode(at, length);
    if (request == null) return false;
    if (replies.full) return true; /* nobody reads: do not queue without end */
    const id = request.getUint(FIELD_ID);
    const op = request.getText(FIELD_OP);
    const before = remembered(id, op);
    if (before != null) {
      replies.push(before);
      return true;
    }
    if (isCommand(op)) auditBegin();
    const outcome = isLate(op, request) ? Outcome.fail(lostFault(op, request)) : this.answer(op, request);
    if (isCommand(op)) auditCommand(AUDIT_PROGRAM, op, request, outcome);
    const reply = replyOf(id, outcome);
    remember(id, op, reply);
    if (replies.push(reply)) return true;
    const text = "the answer is longer than a frame";
    replies.push(replyOf(id, Outcome.fail(new Fault(ErrorCode.FAILED, text, "", "show VM"))));
    return true;
  }

  private answer(op: string, request: Value): Outcome {
    if (this.typed != null) return dispatch(op, request);
    if (op == OP_HELLO) {
      this.isOpen = true;
      return greet(request);
    }
    if (!this.isOpen)
      return Outcome.fail(new Fault(ErrorCode.UNREACHABLE, "this line was given up", op, "help connect"));
    if (op != OP_CONSOLE_ATTACH && op != OP_EVENTS_WATCH && op != OP_PORT_ATTACH)
      return dispatch(op, request);
    const text = "what " + op + " asks for is told on the main line: this one is for bulk data";
    return Outcome.fail(new Fault(ErrorCode.USAGE, text, op, "help connect"));
  }
}

function replyOf(id: u64, outcome: Outcome): Value {
  const fault = outcome.fault;
  const reply = Value.map()
    .putUint(FIELD_ID, id)
    .putBool(FIELD_OK, fault == null);
  if (fault == null) return reply.put(FIELD_RESULT, outcome.result!);
  return reply.put(
    FIELD_ERROR,
    Value.map()
      .putUint(FIELD_CODE, fault.code)
      .putText(FIELD_MESSAGE, fault.message)
      .putText(FIELD_OBJECT, fault.object)
      .putText(FIELD_NEXT, fault.next != "" ? "plinth " + fault.next : ""),
  );
}

function dispatch(op: string, request: Value): Outcome {
  if (op == OP_HELLO) return hello(request);
  if (op == OP_BULK_CLOSE) return closeBulk();
  if (op == OP_CONSOLE_ATTACH) return attach(request);
  if (op == OP_CONSOLE_DETACH) return detach(request.getText(FIELD_VM), <u32>request.getUint(FIELD_SESSION));
  if (op == OP_CONSOLE_HOLD) return hold(request);
  if (op == OP_CONSOLE_WRITE) return write(request);
  if (op == OP_PORT_ATTACH) return portAttach(request);
  if (op == OP_PORT_DETACH) return portDetach(request);
  if (op == OP_PORT_READ) return portRead(request);
  if (op == OP_PORT_WRITE) return portWrite(request);
  if (op == OP_EVENTS_WATCH) return watch(request);
  const outcome = commandRun(op, request);
  if (outcome != null) return outcome;
  return Outcome.fail(
    new Fault(ErrorCode.USAGE, "there is no operation " + quoted(op), clean(op, 60), "status"),
  );
}

/** A new program on the main line: what another one has attached there ends. */
function hello(request: Value): Outcome {
  const greeting = greet(request);
  if (greeting.fault == null) {
    consoles.length = 0;
    watcher.on = false;
  }
  return greeting;
}

function greet(request: Value): Outcome {
  const version = request.getUint(FIELD_VERSION);
  if (version != Protocol.VERSION) {
    const text =
      "the program speaks protocol " +
      version.toString() +
      ", this control domain speaks " +
      Protocol.VERSION.toString();
    return Outcome.fail(new Fault(ErrorCode.INTEGRITY, text, "protocol", "--version"));
  }
  return Outcome.of(
    Value.map()
      .putUint(FIELD_VERSION, Protocol.VERSION)
      .putText(FIELD_PRODUCT, PRODUCT + " " + VERSION)
      .putText(FIELD_BUILD, BUILD)
      .putUint(FIELD_EPOCH, info().restarts),
  );
}

/** A program has given the bulk line up: what it has sent there must not be done any more, for it is sent here again. */
function closeBulk(): Outcome {
  const session = bulkSession;
  if (session != null) session.isOpen = false;
  return Outcome.of(Value.map());
}

function findConsole(name: string): i32 {
  for (let i = 0; i < consoles.length; i++) if (consoles[i].cursor.name == name) return i;
  return -1;
}

function detach(name: string, session: u32 = 0): Outcome {
  const at = findConsole(name);
  if (at >= 0) consoles.splice(at, 1);
  const vm = vmFind(name);
  if (vm != null && session != 0) consoleRelease(vm, session);
  return Outcome.of(Value.map());
}

function attach(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  for (let i = consoles.length - 1; i >= 0; i--) if (!consoles[i].cursor.valid) consoles.splice(i, 1);
  detach(name);
  const push = new ConsolePush(name);
  push.cursor.seek(request.getUint(FIELD_FROM));
  consoles.push(push);
  const link = vm.link;
  const oldest = link == null ? 0 : link.consoleOut.oldest;
  return Outcome.of(Value.map().putUint(FIELD_AT, push.cursor.position).putUint(FIELD_OLDEST, oldest));
}

/** A program types into a console from now on; said again, it goes on to. */
function hold(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const session = <u32>request.getUint(FIELD_SESSION);
  if ((session & 1) == 0)
    return Outcome.fail(new Fault(ErrorCode.USAGE, "a session is an odd number", name, "help console"));
  const fault = consoleHold(vm, session, clean(request.getText(FIELD_WHO), 40), request.getBool(FIELD_FORCE));
  return fault != null ? Outcome.fail(fault) : Outcome.of(Value.map());
}

function write(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const data = request.get(FIELD_DATA);
  if (data == null || (data.kind != Kind.BYTES && data.kind != Kind.TEXT))
    return Outcome.fail(new Fault(ErrorCode.USAGE, "console.write needs data", name, "help console"));
  const fault = consoleRefuses(vm, <u32>request.getUint(FIELD_SESSION));
  if (fault != null) return Outcome.fail(fault);
  const link = vm.link;
  if (link == null || !vm.alive)
    return Outcome.fail(
      new Fault(
        ErrorCode.WRONG_STATE,
        "VM " + quoted(name) + " is " + vm.state + ", nobody reads its console",
        name,
        "start " + name,
      ),
    );
  const bytes = data.kind == Kind.BYTES ? data.blob : utf8(data.text);
  const taken = link.consoleIn.write(changetype<usize>(bytes), bytes.length);
  link.signal();
  return Outcome.of(Value.map().putUint(FIELD_SIZE, taken));
}

function watch(request: Value): Outcome {
  watcher.since = request.getUint(FIELD_SINCE);
  watcher.on = true;
  return Outcome.of(Value.map().putUint(FIELD_NEXT, watcher.since));
}
