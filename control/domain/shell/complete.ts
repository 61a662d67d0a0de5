// Completion at Tab: commands, VMs, images and the keys of `create`.

import { FIELD_INITRD, FIELD_KERNEL, FIELD_TENANT, FIELD_TENANTS } from "../../protocol/schema";
import { modules } from "../host";
import { vmFind, vmNames } from "../vms";
import { commandNames, findCommand } from "./table";
import { Words } from "../commands";
import { snapshotNames } from "../snapshots";
import { tenantNames } from "../tenants";
import {
  CREATE_KEYS,
  FOLLOW,
  POLICY_WORDS,
  READ_ONLY,
  SET_KEYS,
  SINCE,
  SNAPSHOT_WORDS,
  snapshotOptions,
  splitWords,
  TENANT_KEYS,
  TENANT_WORDS,
} from "./words";

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

/** What lets a VM be ended against resistance. */
function forceWords(name: string): string[] {
  const vm = vmFind(name);
  return vm != null && vm.spec.guarded ? ["--force", "--protected"] : ["--force"];
}

/** `tenant`: what it does, whom, and limits. */
function completeTenant(words: string[], word: string, place: i32): Completion {
  if (place == 1) return matching(TENANT_WORDS, word, " ");
  if (place == 2) return matching(tenantNames(), word, " ");
  return words[1] == TENANT_WORDS[0] ? matching(TENANT_KEYS, word, "=") : new Completion([], 0);
}

/** `snapshot`: what it does, whom or which, and options. */
function completeSnapshot(words: string[], word: string, place: i32): Completion {
  if (place == 1) return matching(SNAPSHOT_WORDS, word, " ");
  const verb = words[1];
  if (place == 2 && !word.startsWith("-"))
    return matching(verb == "create" || verb == "ls" ? vmNames() : snapshotNames(), word, " ");
  if (word.startsWith(FIELD_TENANT + "="))
    return matching(tenantNames(), word.substring(FIELD_TENANT.length + 1), " ");
  const options = snapshotOptions(verb);
  const choices: string[] = [];
  for (let i = 0; i < options.length; i++) choices.push(options[i] + (options[i].endsWith("=") ? "" : " "));
  return matching(choices, word, "");
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
  if (command.words == Words.VM_FORCE && word.startsWith("-"))
    return matching(forceWords(words[1]), word, " ");
  if (command.words == Words.SPEC && place > 1) {
    if (word.startsWith(FIELD_KERNEL + "="))
      return matching(moduleNames(), word.substring(FIELD_KERNEL.length + 1), " ");
    if (word.startsWith(FIELD_INITRD + "="))
      return matching(moduleNames(), word.substring(FIELD_INITRD.length + 1), " ");
    if (word.startsWith(FIELD_TENANT + "="))
      return matching(tenantNames(), word.substring(FIELD_TENANT.length + 1), " ");
    return matching(CREATE_KEYS, word, "=");
  }
  if (command.words == Words.TENANT) return completeTenant(words, word, place);
  if (command.words == Words.SNAPSHOT) return completeSnapshot(words, word, place);
  if (command.words == Words.EVENTS && word.startsWith("-")) return matching([FOLLOW, SINCE], word, " ");
  if (command.words == Words.CONSOLE && word.startsWith("-"))
    return matching([READ_ONLY, "--force"], word, " ");
  if (command.words == Words.TOP && place == 1) return matching([FIELD_TENANTS], word, " ");
  if (command.words == Words.IMAGE && place == 1) return matching(moduleNames(), word, " ");
  if (command.words == Words.POLICY)
    return place == 1
      ? matching(POLICY_WORDS, word, " ")
      : matching(vmNames().concat(tenantNames()).concat(["control"]), word, " ");
  if (command.words == Words.CHANGES && place > 1) return matching(SET_KEYS, word, "=");
  const takesVm =
    command.words == Words.VM ||
    command.words == Words.VM_SIZE ||
    command.words == Words.CHANGES ||
    command.words == Words.VM_FORCE ||
    command.words == Words.CONSOLE ||
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
