// A person at a VM's console: what is typed goes to the VM, except for the two ways out.

import { consoleHold, consoleRelease, consoleTaken, SHELL_SESSION } from "../console-hold";
import { Cursor } from "../cursor";
import { quoted } from "../text";
import { vmFind } from "../vms";

const ESC: u32 = 0x1b;
const CTRL_BRACKET: u32 = 0x1d;
const TILDE: u32 = 0x7e;
const CR: u32 = 13;
const LF: u32 = 10;
const QUESTION: u32 = 0x3f;
const DOT: u32 = 0x2e;

const one: usize = memory.data(2, 2);

export const CONSOLE_HELP: string =
  "\n~.  leave    ~?  this help    ~~  one ~    (each after Enter)    Ctrl-]  leave\n";

/** What the shell has to do about a byte. */
export const enum ConsoleKey {
  NONE = 0,
  LEAVE = 1,
  HELP = 2,
  REFUSED = 3,
}

/* Where in an escape sequence the input is. */
const enum Sequence {
  NONE = 0,
  ESCAPE = 1,
  PARAMETERS = 2,
}

export class HumanConsole {
  cursor: Cursor;
  /** Whether the end of the VM was told already. */
  told: bool = false;
  private fresh: bool = true;
  private tilde: bool = false;
  /** What of an escape sequence was seen, and whether a line began before it. */
  private sequence: Sequence = Sequence.NONE;
  private before: bool = false;

  /** `watches`: what is typed is not sent. */
  constructor(
    public name: string,
    private watches: bool,
  ) {
    this.cursor = new Cursor(name);
    this.cursor.seek(0);
  }

  get banner(): string {
    const how = this.watches ? ", read-only" : "";
    return (
      "Console of VM " + quoted(this.name) + how + ". To leave: ~. after Enter, or Ctrl-]. ~? for help.\n"
    );
  }

  /** Who has taken the console, once: from then on this one only watches. "": nobody. */
  taker(): string {
    const vm = vmFind(this.name);
    if (this.watches || vm == null || !consoleTaken(vm, SHELL_SESSION)) return "";
    this.watches = true;
    return vm.heldBy;
  }

  close(): void {
    const vm = vmFind(this.name);
    if (vm != null) consoleRelease(vm, SHELL_SESSION);
  }

  /** Takes a typed byte and passes on what is the VM's. */
  take(byte: u32): ConsoleKey {
    if (byte == CTRL_BRACKET) return ConsoleKey.LEAVE;
    if (this.tilde) {
      this.tilde = false;
      if (byte == DOT) return ConsoleKey.LEAVE;
      if (byte == QUESTION) return ConsoleKey.HELP;
      if (byte == TILDE) return this.send(TILDE, 0);
      return this.send(TILDE, byte);
    }
    if (byte == TILDE && this.fresh) {
      this.tilde = true;
      return ConsoleKey.NONE;
    }
    return this.send(byte, 0);
  }

  private send(first: u32, second: u32): ConsoleKey {
    const last = second != 0 ? second : first;
    this.fresh = this.beginsLine(last) || this.watches;
    const vm = vmFind(this.name);
    // A VM that was made anew has a new console, which nobody holds.
    if (this.watches || (vm != null && consoleHold(vm, SHELL_SESSION, "", false) != null))
      return ConsoleKey.REFUSED;
    const link = vm != null && vm.alive ? vm.link : null;
    if (link == null) return ConsoleKey.REFUSED;
    const length: u32 = second != 0 ? 2 : 1;
    store<u8>(one, <u8>first);
    store<u8>(one, <u8>second, 1);
    if (link.consoleIn.room < length) return ConsoleKey.REFUSED;
    link.consoleIn.write(one, length);
    link.signal();
    return ConsoleKey.NONE;
  }

  /** A terminal's answer to a question (its cursor, its kind) is not typed: a line begins behind it if it did before. */
  private beginsLine(byte: u32): bool {
    if (byte == ESC) {
      if (this.sequence == Sequence.NONE) this.before = this.fresh;
      this.sequence = Sequence.ESCAPE;
    } else if (this.sequence == Sequence.ESCAPE) {
      this.sequence = byte == 0x5b ? Sequence.PARAMETERS : Sequence.NONE;
    } else if (this.sequence == Sequence.PARAMETERS && (byte < 0x30 || byte > 0x3f)) {
      this.sequence = Sequence.NONE;
      return this.before && (byte == 0x52 || byte == 0x63 || byte == 0x6e); // R, c, n
    }
    return byte == CR || byte == LF;
  }
}
