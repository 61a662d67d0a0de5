// The image of this very component: which one runs, the next one that comes in pieces or from a boot module, the
// change to it, and its trial.
//
// The kernel has the last word: an image that ends on trial, or says for ten seconds not that it is up, gives way to
// the one before (HC_UPGRADE). Here is only what people want to know of it.

import {
  CAP_SELF,
  Failure,
  IMAGE_ABI_OFFSET,
  IMAGE_MAGIC,
  IMAGE_MAX,
  IMAGE_ROLE_OFFSET,
  IMAGE_SIZE_OFFSET,
  PAGE_SIZE,
  Right,
  Role,
} from "../gen/abi";
import {
  capDrop,
  memCreate,
  memMap,
  memUnmap,
  sharedCopy,
  sharedLoad32,
  sharedRead,
  sharedWrite,
  upgrade,
  upgradeConfirm,
} from "../lib/binding";
import { sha256Blocks, sha256End, sha256Start, SHA256_SIZE } from "../lib/sha256";
import {
  ErrorCode,
  EVENT_CONTROL_CONFIRMED,
  EVENT_CONTROL_RESTARTED,
  EVENT_CONTROL_ROLLED_BACK,
  EVENT_CONTROL_UPGRADE,
  EVENT_CONTROL_UPGRADED,
  FIELD_AT,
  FIELD_BEFORE,
  FIELD_DATA,
  FIELD_HASH,
  FIELD_HOOKS,
  FIELD_IMAGE,
  FIELD_PAUSE_US,
  FIELD_SESSION,
  FIELD_SIZE,
  FIELD_TRIAL,
  FIELD_VERSION,
} from "../protocol/schema";
import { emit } from "./events";
import { policyHooks } from "./hooks/chosen";
import { findModule, info, Module, modules, uptimeMs, usSince } from "./host";
import { Fault, Outcome } from "./outcome";
import { GPA_MODULE, GPA_UPLOAD, SLOT_UPLOAD } from "./slots";
import { CONTROL_DOCUMENT, stashed, unstash } from "./stash-form";
import { stashWrite } from "./stash";
import { grouped, hex, quoted } from "./text";
import { linesQueued } from "./line";
import { Kind, Value } from "./value";
import { VERSION } from "./version";

const NEXT: string = "status";
/** What is smaller has no head. */
const MIN_IMAGE: u64 = 16;
/** A reply is on its way so long at most, and its last bytes so long behind the rest. */
const REPLY_MS: u64 = 2000;
const LAST_BYTES_MS: u64 = 20;
/** An image is up when it has answered events for so long. */
const TRIAL_MS: u64 = 500;
/** An upload of which so long nothing comes is forgotten. */
const UPLOAD_MS: u64 = 60000;
/** Digits of a hash, for people. */
const SHORT = 12;
const UNKNOWN: string = "unknown";

const piece: usize = memory.data(4096, 16);
const digest: usize = memory.data(32, 16);

/** Hashes: of the image that runs ("": the one that was booted), and of the one before while it is on trial. */
let running: string = "";
let before: string = "";

/** The upload: whose, its size, what is there of it, and when the last piece came. */
let session: u64 = 0;
let size: u64 = 0;
let length: u64 = 0;
let touched: u64 = 0;

/** When the change is to be made; 0: none is. */
let changeAt: u64 = 0;
let changeLimit: u64 = 0;
let startedAt: u64 = 0;
/** Restarts that were upgrades. */
let upgrades: u64 = 0;
let pauseUs: u64 = 0;

function short(hash: string): string {
  return hash.substring(0, SHORT);
}

/** The SHA-256 of memory outside, in hexadecimal. */
function hashOf(at: u64, bytes: u64): string {
  sha256Start();
  let done: u64 = 0;
  for (; bytes - done >= 4096; done += 4096) {
    sharedRead(piece, at + done, 4096);
    sha256Blocks(piece, 4096);
  }
  sharedRead(piece, at + done, <u32>(bytes - done));
  sha256End(digest, piece, <u32>(bytes - done), bytes);
  const out = new StaticArray<u8>(SHA256_SIZE);
  memory.copy(changetype<usize>(out), digest, SHA256_SIZE);
  return hex(out);
}

function mapModule(module: Module): bool {
  return memMap(CAP_SELF, module.slot, GPA_MODULE, 0, module.pages, Right.READ) >= 0;
}

/** The hash of the image that runs. That of the booted one is computed when somebody first asks. */
function runningHash(): string {
  if (running != "") return running;
  const module = modules()[0];
  if (!mapModule(module)) return UNKNOWN;
  running = hashOf(GPA_MODULE, module.size);
  memUnmap(CAP_SELF, GPA_MODULE, module.pages);
  save("");
  return running;
}

/** `wanted`: the image that is to run next. */
function save(wanted: string): void {
  const value = stashed(Value.map()).putText(FIELD_IMAGE, running).putText(FIELD_BEFORE, before);
  stashWrite(CONTROL_DOCUMENT, value.putText(FIELD_HASH, wanted).putUint("upgrades", upgrades));
}

/** A first start. */
export function upgradeFresh(): void {
  save("");
}

/** This component is ready for its first event. */
export function upgradeReady(): void {
  if (info().restarts > 0) pauseUs = usSince(info().ended_tsc);
}

/** How often the control domain was started again because one had failed. */
export function controlFailures(): u64 {
  return info().restarts - min<u64>(upgrades, info().restarts);
}

/** What `status` tells. */
export function upgradeStatus(): Value {
  const value = Value.map()
    .putText(FIELD_VERSION, VERSION)
    .putText(FIELD_IMAGE, runningHash())
    .putBool(FIELD_TRIAL, info().trial != 0)
    .putText(FIELD_HOOKS, policyHooks().name())
    .putUint(FIELD_PAUSE_US, pauseUs);
  return before != "" ? value.putText(FIELD_BEFORE, before) : value;
}

/** After a start: tells what has happened to the image. `reason`: why the last one ended. */
export function upgradeRestore(reason: string, found: string): string {
  capDrop(SLOT_UPLOAD);
  startedAt = uptimeMs();
  const value = unstash(CONTROL_DOCUMENT);
  running = value != null ? value.getText(FIELD_IMAGE) : UNKNOWN;
  before = value != null ? value.getText(FIELD_BEFORE) : "";
  upgrades = value != null ? value.getUint("upgrades") : 0;
  let kind = EVENT_CONTROL_RESTARTED;
  let text = "control domain restarted (" + reason + ")";
  if (info().last_failure == Failure.REPLACED) {
    upgrades++;
    before = running;
    running = value != null ? value.getText(FIELD_HASH, UNKNOWN) : UNKNOWN;
    kind = EVENT_CONTROL_UPGRADED;
    text = "control image " + short(running) + " is on trial in place of " + short(before);
  } else if (info().rolled_back != 0) {
    let failed =
      value != null ? value.getText(FIELD_HASH) : ""; /* it has not come so far as to write itself */
    if (failed == "") {
      failed = running;
      running = before;
    }
    before = "";
    kind = EVENT_CONTROL_ROLLED_BACK;
    text = "control image " + short(failed) + " failed, " + short(runningHash()) + " is back";
  }
  save("");
  text += "; found " + found;
  if (kind == EVENT_CONTROL_ROLLED_BACK) text += "; " + reason;
  emit(kind, "", text);
  return text;
}

function drop(): void {
  capDrop(SLOT_UPLOAD); /* which unmaps it */
  session = 0;
  size = 0;
  length = 0;
}

function refuse(code: ErrorCode, text: string): Outcome {
  drop();
  return Outcome.fail(new Fault(code, "the image " + text, "control", NEXT));
}

/** Memory for an image of this size. */
function make(bytes: u64): Outcome | null {
  drop();
  if (bytes < MIN_IMAGE) return refuse(ErrorCode.INTEGRITY, "has only " + grouped(bytes) + " bytes");
  if (bytes > <u64>IMAGE_MAX)
    return refuse(
      ErrorCode.INTEGRITY,
      "has " + grouped(bytes) + " bytes, a control component has at most " + grouped(IMAGE_MAX),
    );
  const pages = (bytes + PAGE_SIZE - 1) / PAGE_SIZE;
  let status = memCreate(SLOT_UPLOAD, pages);
  if (status >= 0) status = memMap(CAP_SELF, SLOT_UPLOAD, GPA_UPLOAD, 0, pages, Right.READ | Right.WRITE);
  if (status < 0) return refuse(ErrorCode.FAILED, "finds no memory on the host");
  size = bytes;
  return null;
}

/** Takes the piece of an image at a position; position 0 of a session begins one. */
export function uploadPut(request: Value): Outcome {
  const from = request.getUint(FIELD_SESSION);
  const at = request.getUint(FIELD_AT);
  const data = request.get(FIELD_DATA);
  if (from == 0 || data == null || data.kind != Kind.BYTES)
    return Outcome.fail(new Fault(ErrorCode.USAGE, "image.put needs session, at, size and data", "", NEXT));
  if (changeAt != 0) return Outcome.fail(busy());
  if (from != session && at == 0) {
    const fault = make(request.getUint(FIELD_SIZE));
    if (fault != null) return fault;
    session = from;
  }
  const bytes: u64 = data.blob.length;
  if (from != session || at > length || bytes > size - min(at, size) || request.getUint(FIELD_SIZE) != size)
    return Outcome.fail(new Fault(ErrorCode.WRONG_STATE, "the image is not whole here", "control", NEXT));
  sharedWrite(GPA_UPLOAD + at, changetype<usize>(data.blob), data.blob.length);
  length = max(length, at + bytes);
  touched = uptimeMs();
  return Outcome.of(Value.map().putUint(FIELD_SIZE, length));
}

function busy(): Fault {
  return new Fault(ErrorCode.WRONG_STATE, "a control image is about to start", "control", "status");
}

/** Takes a copy of a boot module in place of an upload. */
function takeModule(name: string): Outcome | null {
  const module = findModule(name);
  if (module == null) {
    const text = "there is no boot module " + quoted(name);
    return Outcome.fail(new Fault(ErrorCode.NOT_FOUND, text, name, "images"));
  }
  const fault = make(module.size);
  if (fault != null) return fault;
  if (!mapModule(module)) return refuse(ErrorCode.FAILED, "cannot be read");
  sharedCopy(GPA_UPLOAD, GPA_MODULE, module.size);
  memUnmap(CAP_SELF, GPA_MODULE, module.pages);
  length = size;
  return null;
}

/** What the head of an image says against it, "" when nothing. */
function headProblem(): string {
  const version = sharedLoad32(GPA_UPLOAD + IMAGE_ABI_OFFSET);
  const bytes = sharedLoad32(GPA_UPLOAD + IMAGE_SIZE_OFFSET);
  if ((version & 0xffffff00) != IMAGE_MAGIC) return "is no component of Plinth";
  if ((version & 0xff) != info().abi_version) {
    const ours = info().abi_version.toString();
    return (
      "is built for ABI version " + (version & 0xff).toString() + ", the kernel here has version " + ours
    );
  }
  if (sharedLoad32(GPA_UPLOAD + IMAGE_ROLE_OFFSET) != Role.CONTROL)
    return "is a component, but no control component";
  if (bytes > size) return "is truncated: it has " + grouped(size) + " of its " + grouped(bytes) + " bytes";
  return "";
}

/** Lets another image take this one's place, once the reply is out. */
export function upgradeStart(request: Value): Outcome {
  if (changeAt != 0) return Outcome.fail(busy());
  if (info().trial != 0) {
    const text = "control image " + short(running) + " is on trial";
    return Outcome.fail(new Fault(ErrorCode.WRONG_STATE, text, "control", "status"));
  }
  const name = request.getText(FIELD_IMAGE);
  if (name != "") {
    const fault = takeModule(name);
    if (fault != null) return fault;
  } else if (request.getUint(FIELD_SESSION) != session || session == 0 || length != size) {
    const text = "the image is not whole here: send it again";
    return Outcome.fail(new Fault(ErrorCode.WRONG_STATE, text, "control", NEXT));
  }
  const hash = hashOf(GPA_UPLOAD, size);
  if (name == "" && request.getText(FIELD_HASH) != hash)
    return refuse(ErrorCode.INTEGRITY, "came damaged: its hash is " + short(hash));
  const problem = headProblem();
  if (problem != "") return refuse(ErrorCode.INTEGRITY, problem);
  emit(EVENT_CONTROL_UPGRADE, "", "control image " + short(hash) + " is to replace " + short(runningHash()));
  save(hash);
  changeAt = uptimeMs() + LAST_BYTES_MS;
  changeLimit = changeAt + REPLY_MS;
  session = 0;
  return Outcome.of(Value.map().putText(FIELD_HASH, hash));
}

/** Does what is due; returns when something is due next, u64.MAX_VALUE: nothing is. */
export function upgradeTick(now: u64): u64 {
  if (changeAt != 0) {
    if (linesQueued() > 0) changeAt = now + LAST_BYTES_MS;
    if (now < min(changeAt, changeLimit)) return min(changeAt, changeLimit);
    changeAt = 0;
    upgrade(SLOT_UPLOAD); /* which does not return */
    drop();
    save("");
    emit(EVENT_CONTROL_ROLLED_BACK, "", "the kernel does not take the control image");
  }
  if (info().trial != 0) {
    if (now < startedAt + TRIAL_MS) return startedAt + TRIAL_MS;
    if (upgradeConfirm() >= 0) {
      before = "";
      save("");
      emit(EVENT_CONTROL_CONFIRMED, "", "control image " + short(running) + " is up, and stays");
    }
    info().trial = 0;
  }
  if (session == 0) return u64.MAX_VALUE;
  if (now < touched + UPLOAD_MS) return touched + UPLOAD_MS;
  drop();
  return u64.MAX_VALUE;
}
