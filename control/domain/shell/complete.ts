// Completion at Tab: commands, VMs, images and the keys of `create`.

import { FIELD_INITRD, FIELD_KERNEL } from "../../protocol/schema";
import { modules } from "../host";
import { vmNames } from "../vms";
import { commandNames, findCommand } from "./table";
import { Words } from "../commands";
import { CREATE_KEYS, splitWords } from "./words";

/** What the word before the cursor may become. `typed` is how much of each is there already. */
export class Completion {
  constructor(
    public choices: string[],
    public typed: i32,
  ) {}
}

function matching(all: string[], start: string, end: string): Completion {
  const choices: string[] = [];
  for (let i = 0; i < all.length; i++) if (all[i].startsWith(start)) choices.push(all[i] + end);
  return new Completion(choices, start.length);
}

function moduleNames(): string[] {
  const names: string[] = [];
  const all = modules();
  for (let i = 0; i < all.length; i++) names.push(all[i].name);
  return names;
}

/** Completes the last word of what stands before the cursor. */
export function complete(before: string): Completion {
  const words = splitWords(before);
  const open = before == "" || before.endsWith(" ");
  const word = open || words.length == 0 ? "" : words[words.length - 1];
  const place = open ? words.length : words.length - 1;
  if (place <= 0) return matching(commandNames(), word, " ");
  const command = findCommand(words[0]);
  if (command == null) return new Completion([], 0);
  if (command.words == Words.COMMAND && place == 1) return matching(commandNames(), word, " ");
  if (command.words == Words.VM_FORCE && word.startsWith("-")) return matching(["--force"], word, " ");
  if (command.words == Words.SPEC && place > 1) {
    if (word.startsWith(FIELD_KERNEL + "="))
      return matching(moduleNames(), word.substring(FIELD_KERNEL.length + 1), " ");
    if (word.startsWith(FIELD_INITRD + "="))
      return matching(moduleNames(), word.substring(FIELD_INITRD.length + 1), " ");
    return matching(CREATE_KEYS, word, "=");
  }
  const takesVm =
    command.words == Words.VM ||
    command.words == Words.VM_SIZE ||
    command.words == Words.VM_FORCE ||
    command.words == Words.OPTIONAL_VM;
  return takesVm && place == 1 ? matching(vmNames(), word, " ") : new Completion([], 0);
}

/** The longest beginning that all choices share. */
export function commonStart(choices: string[]): string {
  let start = choices[0];
  for (let i = 1; i < choices.length; i++) {
    let n = 0;
    while (n < start.length && n < choices[i].length && start.charCodeAt(n) == choices[i].charCodeAt(n)) n++;
    start = start.substring(0, n);
  }
  return start;
}
