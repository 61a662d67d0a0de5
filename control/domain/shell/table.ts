// The commands that a person can type: those of commands.ts, and a few that only make sense at a terminal.

import { Command, commands, Words } from "../commands";
import { Outcome } from "../outcome";
import { Value } from "../value";

function nothing(request: Value): Outcome {
  return Outcome.of(request);
}

export const HELP: string = "help";
export const CONSOLE: string = "console";
export const FREE: string = "free";
export const VERSION_COMMAND: string = "version";
export const CLEAR: string = "clear";

const own: Command[] = [
  new Command(
    "",
    CONSOLE,
    Words.CONSOLE,
    "console VM [--read-only] [--force]",
    "talk to a VM, or watch it; ~. after Enter, or Ctrl-], leaves",
    nothing,
  ),
  new Command("", FREE, Words.NONE, "free", "the host's memory", nothing),
  new Command("", HELP, Words.COMMAND, "help [COMMAND]", "this list, or how to use a command", nothing),
  new Command("", VERSION_COMMAND, Words.NONE, "version", "versions of the parts", nothing),
  new Command("", CLEAR, Words.NONE, "clear", "clear the screen", nothing),
];

/** All commands of the shell. */
export function shellCommands(): Command[] {
  const out: Command[] = [];
  const shared = commands();
  for (let i = 0; i < shared.length; i++) if (shared[i].name != "") out.push(shared[i]);
  return out.concat(own);
}

export function commandNames(): string[] {
  const names: string[] = [];
  const all = shellCommands();
  for (let i = 0; i < all.length; i++) names.push(all[i].name);
  return names;
}

export function findCommand(name: string): Command | null {
  const all = shellCommands();
  for (let i = 0; i < all.length; i++) if (all[i].name == name) return all[i];
  return null;
}
