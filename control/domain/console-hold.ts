// Who types into a VM's console: one at a time, the shell or a program; all others watch.
//
// A program says who it is by an odd number that it makes up, and says it again now and then: one that is silent for
// long is gone. The shell is there as long as its person has not left the console.

import { ErrorCode, EVENT_CONSOLE_TAKEN, Protocol } from "../protocol/schema";
import { emit } from "./events";
import { uptimeMs } from "./host";
import { Fault } from "./outcome";
import { quoted } from "./text";
import { Vm } from "./vm";

/** The session of the shell. */
export const SHELL_SESSION: u32 = 2;
const SHELL: string = "the host's shell";

/** Whether nobody types, or whoever did is gone. */
function isFree(vm: Vm): bool {
  return vm.holder == 0 || (vm.holder != SHELL_SESSION && uptimeMs() > vm.heldUntil);
}

/** Whether another session types into the console, or took it. */
export function consoleTaken(vm: Vm, session: u32): bool {
  return vm.holder != session && !isFree(vm);
}

/** The fault for who may only watch; null: `session` may type. */
export function consoleRefuses(vm: Vm, session: u32): Fault | null {
  if (!consoleTaken(vm, session)) return null;
  const text =
    "VM " +
    quoted(vm.name) +
    ": its console is in use by " +
    vm.heldBy +
    "; --force takes it over, --read-only watches";
  return new Fault(ErrorCode.WRONG_STATE, text, vm.name, "console " + vm.name + " --read-only");
}

/** From now on `session` types, and no other. `who`: for the others; force: even if another does. */
export function consoleHold(vm: Vm, session: u32, who: string, force: bool): Fault | null {
  const fault = consoleRefuses(vm, session);
  if (fault != null && !force) return fault;
  const name = session == SHELL_SESSION ? SHELL : who != "" ? who : "a program";
  const before = vm.heldBy;
  vm.holder = session;
  vm.heldBy = name;
  vm.heldUntil = uptimeMs() + Protocol.CONSOLE_LEASE_MS;
  if (fault != null) emit(EVENT_CONSOLE_TAKEN, vm.name, "console taken over from " + before + " by " + name);
  return null;
}

/** `session` does not type any more. */
export function consoleRelease(vm: Vm, session: u32): void {
  if (vm.holder == session) vm.holder = 0;
}
