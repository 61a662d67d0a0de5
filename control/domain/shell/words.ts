// From a typed line to words, and from words to a request document.

import {
  ErrorCode,
  FIELD_BALLOON,
  FIELD_BOOT,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_CPUS,
  FIELD_DEBUG_EXIT,
  FIELD_DISKS,
  FIELD_FIRMWARE,
  FIELD_FORCE,
  FIELD_IMAGE,
  FIELD_INITRD,
  FIELD_KERNEL,
  FIELD_MAC,
  FIELD_NETWORK,
  FIELD_NETWORKS,
  FIELD_ONE,
  FIELD_OP,
  FIELD_OTHER,
  FIELD_NODE,
  FIELD_RINGS,
  FIELD_MAX,
  FIELD_MEMORY,
  FIELD_MODULES,
  FIELD_NAME,
  FIELD_POLICY,
  FIELD_PORT,
  FIELD_PORTS,
  FIELD_PROTECTED,
  FIELD_CDROM,
  FIELD_READ_ONLY,
  FIELD_RESTART,
  FIELD_SCHEDULING,
  FIELD_SPEC,
  FIELD_START,
  FIELD_TAGS,
  FIELD_TENANT,
  FIELD_SINCE,
  FIELD_TENANTS,
  FIELD_VCPUS,
  FIELD_SIZE,
  FIELD_VM,
  FIELD_WAIT,
  FIELD_WINDOW,
  OP_SNAPSHOT_CLONE,
  OP_SNAPSHOT_CREATE,
  OP_SNAPSHOT_LS,
  OP_SNAPSHOT_RESTORE,
  OP_SNAPSHOT_RM,
  OP_SNAPSHOT_SHOW,
} from "../../protocol/schema";
import { Command, Words } from "../commands";
import { Fault, Outcome } from "../outcome";
import { SHARE_FIELDS } from "../../protocol/cpus";
import { TENANT_FIELDS } from "../tenants";
import { nearest, parseNumber, parseSize, quoted } from "../text";
import { Value } from "../value";

/** Splits at spaces; "double quotes" keep them. A quote may begin inside a word: cmdline="a b". */
export function splitWords(line: string): string[] {
  const words: string[] = [];
  let word = "";
  let open = false;
  let any = false;
  for (let i = 0; i < line.length; i++) {
    const c = line.charAt(i);
    if (c == '"') {
      open = !open;
      any = true;
    } else if (c == " " && !open) {
      if (any) words.push(word);
      word = "";
      any = false;
    } else {
      word += c;
      any = true;
    }
  }
  if (any) words.push(word);
  return words;
}

function usage(command: Command, text: string): Outcome {
  return Outcome.fail(
    new Fault(
      ErrorCode.USAGE,
      command.name + ": " + text + "; usage: " + command.usage,
      command.name,
      "help " + command.name,
    ),
  );
}

/** The request that the words after a command's name make. */
export function requestOf(command: Command, words: string[]): Outcome {
  const request = Value.map();
  if (command.words == Words.SPEC) return createRequest(command, words);
  if (command.words == Words.CHANGES) return setRequest(command, words);
  if (command.words == Words.COMMAND) return Outcome.of(request);
  if (command.words == Words.COUNT || command.words == Words.EVENTS) return eventsRequest(command, words);
  if (command.words == Words.POLICY) return policyRequest(command, words);
  if (command.words == Words.TENANT) return tenantRequest(command, words);
  if (command.words == Words.TOP) return topRequest(command, words);
  if (command.words == Words.SNAPSHOT) return snapshotRequest(command, words);
  let force = false;
  let name = "";
  for (let i = 1; i < words.length; i++) {
    const word = words[i];
    if (word == "--force" || word == "-f") {
      if (command.words != Words.VM_FORCE && command.words != Words.CONSOLE)
        return usage(command, "it has no option " + quoted(word));
      force = true;
    } else if (word == "--protected" && command.words == Words.VM_FORCE) {
      request.putBool(FIELD_PROTECTED, true);
    } else if (word == READ_ONLY && command.words == Words.CONSOLE) {
      request.putBool(FIELD_READ_ONLY, true);
    } else if (word.startsWith("-")) {
      return usage(command, "it has no option " + quoted(word));
    } else if (name != "" && command.words == Words.VM_SIZE && request.get(FIELD_SIZE) == null) {
      const size = parseSize(word);
      if (size < 0) return usage(command, quoted(word) + " is no size");
      request.putUint(FIELD_SIZE, size);
    } else if (name != "" || command.words == Words.NONE) {
      return usage(command, quoted(word) + " is too much");
    } else {
      name = word;
    }
  }
  if (
    name == "" &&
    (command.words == Words.VM || command.words == Words.VM_FORCE || command.words == Words.CONSOLE)
  )
    return usage(command, "it needs a VM");
  if (command.words == Words.IMAGE) {
    if (name == "") return usage(command, "it needs an image");
    return Outcome.of(request.putText(FIELD_IMAGE, name));
  }
  if (command.words == Words.VM_SIZE && request.get(FIELD_SIZE) == null)
    return usage(command, "it needs a VM and a size");
  if (name != "") request.putText(FIELD_VM, name);
  if (force) request.putBool(FIELD_FORCE, true);
  return Outcome.of(request);
}

/** The options of `console` and `events`, for completion too. */
export const READ_ONLY: string = "--read-only";
export const FOLLOW: string = "--follow";
export const SINCE: string = "--since";

/** `events` and `audit`: how many, and of events from where on. */
function eventsRequest(command: Command, words: string[]): Outcome {
  const request = Value.map();
  for (let i = 1; i < words.length; i++) {
    const word = words[i];
    const isOption = command.words == Words.EVENTS && word.startsWith("-");
    if (isOption && (word == FOLLOW || word == "-f")) {
      request.putBool(FIELD_WAIT, true);
      continue;
    }
    if (isOption && !word.startsWith(SINCE)) return usage(command, "it has no option " + quoted(word));
    // --since N and --since=N
    if (isOption && word == SINCE) i++;
    const at = isOption && word != SINCE ? word.indexOf("=") : -1;
    const text = i < words.length ? words[i].substring(at + 1) : "";
    const number = parseNumber(text);
    if (number < 0) return usage(command, quoted(text) + " is no number");
    request.putUint(isOption ? FIELD_SINCE : FIELD_MAX, number);
  }
  return Outcome.of(request);
}

function topRequest(command: Command, words: string[]): Outcome {
  if (words.length > 2 || (words.length == 2 && words[1] != FIELD_TENANTS))
    return usage(command, quoted(words[words.length - 1]) + " is too much");
  return Outcome.of(Value.map().putBool(FIELD_TENANTS, words.length == 2));
}

/** What `tenant` does, and the keys of `tenant set`. */
export const TENANT_WORDS: string[] = ["set", "rm"];
/** What `tenant set` takes: all of a tenant but its name. */
export const TENANT_KEYS: string[] = TENANT_FIELDS.slice(1);

function tenantRequest(command: Command, words: string[]): Outcome {
  const verb = words.length > 1 ? words[1] : "";
  if (TENANT_WORDS.indexOf(verb) < 0)
    return usage(command, verb == "" ? "it needs set or rm" : "it knows no " + quoted(verb));
  if (words.length < 3) return usage(command, "it needs a tenant's name");
  if (verb == "rm") {
    if (words.length > 3) return usage(command, quoted(words[3]) + " is too much");
    return Outcome.of(Value.map().putText(FIELD_TENANT, words[2]));
  }
  const spec = Value.map().putText(FIELD_NAME, words[2]);
  for (let i = 3; i < words.length; i++) {
    const at = words[i].indexOf("=");
    const key = at > 0 ? words[i].substring(0, at) : "";
    if (TENANT_KEYS.indexOf(key) < 0) return unknownKey(command, words[i], TENANT_KEYS);
    const text = words[i].substring(at + 1);
    if (key == FIELD_CPUS) {
      spec.putText(key, text == "none" ? "" : text);
      continue;
    }
    const number = text == "none" ? 0 : key == FIELD_MEMORY ? parseSize(text) : parseNumber(text);
    const form = key == FIELD_MEMORY ? "like 128M or 1G" : "a number";
    if (number < 0) return usage(command, key + " is " + quoted(text) + ", it must be " + form + ", or none");
    spec.putUint(key, number);
  }
  return Outcome.of(Value.map().put(FIELD_SPEC, spec));
}

/** The words behind `policy`, and how many follow each. */
export const POLICY_WORDS: string[] = ["explain", "check"];

function policyRequest(command: Command, words: string[]): Outcome {
  const request = Value.map();
  const isCheck = words.length == 2 && words[1] == POLICY_WORDS[1];
  if (isCheck) return Outcome.of(request);
  if (words.length != 4 || words[1] != POLICY_WORDS[0])
    return usage(command, "it needs two VMs, tenants or domains to compare, or check");
  return Outcome.of(request.putText(FIELD_ONE, words[2]).putText(FIELD_OTHER, words[3]));
}

/** What `snapshot` does, and the operations that these are. */
export const SNAPSHOT_WORDS: string[] = ["create", "ls", "show", "restore", "clone", "rm"];
const SNAPSHOT_OPS: string[] = [
  OP_SNAPSHOT_CREATE,
  OP_SNAPSHOT_LS,
  OP_SNAPSHOT_SHOW,
  OP_SNAPSHOT_RESTORE,
  OP_SNAPSHOT_CLONE,
  OP_SNAPSHOT_RM,
];

/** The options of each. */
export function snapshotOptions(verb: string): string[] {
  if (verb == "create") return ["--overcommit", "note="];
  if (verb == "restore") return ["--force", "--protected", "--overcommit"];
  return verb == "clone" ? ["--paused", "--overcommit", "tenant="] : [];
}

/** The operation is in the request, as `op`. */
function snapshotRequest(command: Command, words: string[]): Outcome {
  const verb = words.length > 1 ? words[1] : "";
  const at = SNAPSHOT_WORDS.indexOf(verb);
  if (at < 0)
    return usage(
      command,
      verb == "" ? "it needs one of " + SNAPSHOT_WORDS.join(", ") : "it knows no " + quoted(verb),
    );
  const request = Value.map().putText(FIELD_OP, SNAPSHOT_OPS[at]);
  const options = snapshotOptions(verb);
  const names: string[] = [];
  for (let i = 2; i < words.length; i++) {
    const equals = words[i].indexOf("=") + 1;
    const option = equals > 0 ? words[i].substring(0, equals) : words[i];
    if (options.includes(option) && equals > 0)
      request.putText(option.substring(0, equals - 1), words[i].substring(equals));
    else if (options.includes(option)) request.putBool(option.substring(2), true);
    else if (option.startsWith("-") || equals > 0)
      return usage(command, verb + " has no option " + quoted(option));
    else names.push(words[i]);
  }
  const first = verb == "create" || verb == "ls" ? FIELD_VM : FIELD_NAME;
  const second = verb == "create" ? FIELD_NAME : verb == "clone" ? FIELD_VM : "";
  if (names.length > (second != "" ? 2 : 1))
    return usage(command, quoted(names[names.length - 1]) + " is too much");
  if (names.length == 0 && verb != "ls")
    return usage(command, verb + " needs " + (verb == "create" ? "a VM" : "a snapshot"));
  if (verb == "clone" && names.length < 2) return usage(command, "clone needs the name of the new VM");
  if (names.length > 0) request.putText(first, names[0]);
  if (names.length > 1) request.putText(second, names[1]);
  return Outcome.of(request);
}

/** A disk of `create`: disk=IMAGE, disk=IMAGE,ro or disk=IMAGE,cd; may be given again. */
const DISK: string = "disk";
/** A module of `create`: module=IMAGE, or module="IMAGE,COMMAND LINE"; may be given again. */
const MODULE: string = "module";
/** debugexit=yes */
const DEBUG_EXIT: string = "debugexit";

/** A network card: network=NAME, or network=NAME,MAC; may be given again. */
const NETWORK: string = "network";

/** The keys of `set`. */
export const SET_KEYS: string[] = [
  FIELD_TAGS,
  FIELD_PROTECTED,
  FIELD_RESTART,
  FIELD_MAX,
  FIELD_WINDOW,
].concat(SHARE_FIELDS);

/** The keys of `create`, for completion too. */
export const CREATE_KEYS: string[] = [
  FIELD_TENANT,
  FIELD_TAGS,
  FIELD_PROTECTED,
  FIELD_MEMORY,
  FIELD_BALLOON,
  FIELD_KERNEL,
  FIELD_INITRD,
  FIELD_FIRMWARE,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_BOOT,
  MODULE,
  DEBUG_EXIT,
  DISK,
  NETWORK,
  FIELD_PORT,
  FIELD_RINGS,
  FIELD_NODE,
  FIELD_VCPUS,
  FIELD_START,
  FIELD_RESTART,
  FIELD_MAX,
  FIELD_WINDOW,
].concat(SHARE_FIELDS);

const TEXT_KEYS: string[] = [
  FIELD_TENANT,
  FIELD_KERNEL,
  FIELD_INITRD,
  FIELD_FIRMWARE,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_BOOT,
  FIELD_RINGS,
];

/** Puts what a share of the CPUs is made of; false: it is no number. */
function putShare(spec: Value, key: string, text: string): bool {
  if (key == FIELD_SCHEDULING || key == FIELD_CPUS) {
    spec.putText(key, text);
    return true;
  }
  const number = parseNumber(text.endsWith("%") ? text.substring(0, text.length - 1) : text);
  if (number >= 0) spec.putUint(key, number);
  return number >= 0;
}

/** "web,blue" as a list. */
function tagsOf(text: string): Value {
  const list = Value.list();
  const names = text.split(",");
  for (let i = 0; i < names.length; i++) if (names[i] != "") list.add(Value.string(names[i]));
  return list;
}

function isYes(text: string): bool {
  return text != "no" && text != "false";
}

function unknownKey(command: Command, word: string, keys: string[]): Outcome {
  const near = nearest(word.split("=")[0], keys);
  const hint = near != "" ? ", did you mean " + quoted(near + "=") + "?" : "";
  return usage(command, "it knows no " + quoted(word) + hint);
}

function setRequest(command: Command, words: string[]): Outcome {
  if (words.length < 3) return usage(command, "it needs a VM and what to change");
  const spec = Value.map();
  const restart = Value.map();
  for (let i = 2; i < words.length; i++) {
    const at = words[i].indexOf("=");
    const key = at > 0 ? words[i].substring(0, at) : "";
    const text = words[i].substring(at + 1);
    if (key == FIELD_TAGS) {
      spec.put(FIELD_TAGS, tagsOf(text));
    } else if (key == FIELD_PROTECTED) {
      spec.putBool(FIELD_PROTECTED, isYes(text));
    } else if (key == FIELD_RESTART) {
      restart.putText(FIELD_POLICY, text);
    } else if (key == FIELD_MAX || key == FIELD_WINDOW) {
      const number = parseNumber(text);
      if (number < 0) return usage(command, key + " is " + quoted(text) + ", it must be a number");
      restart.putUint(key, number);
    } else if (SHARE_FIELDS.indexOf(key) >= 0) {
      if (!putShare(spec, key, text))
        return usage(command, key + " is " + quoted(text) + ", it must be a number");
    } else {
      return unknownKey(command, words[i], SET_KEYS);
    }
  }
  if (restart.items.length > 0) spec.put(FIELD_RESTART, restart);
  return Outcome.of(Value.map().putText(FIELD_VM, words[1]).put(FIELD_SPEC, spec));
}

function createRequest(command: Command, words: string[]): Outcome {
  if (words.length < 2) return usage(command, "it needs a name");
  const spec = Value.map().putText(FIELD_NAME, words[1]);
  const restart = Value.map();
  const disks = Value.list();
  const modules = Value.list();
  const networks = Value.list();
  const ports = Value.list();
  for (let i = 2; i < words.length; i++) {
    const at = words[i].indexOf("=");
    const key = at > 0 ? words[i].substring(0, at) : "";
    const text = words[i].substring(at + 1);
    if (key == FIELD_MEMORY || key == FIELD_BALLOON) {
      const size = parseSize(text);
      if (size < 0) return usage(command, key + " is " + quoted(text) + ", it must be like 128M or 1G");
      spec.putUint(key, size);
    } else if (key == FIELD_VCPUS || key == FIELD_NODE || key == FIELD_MAX || key == FIELD_WINDOW) {
      const number = parseNumber(text);
      if (number < 0) return usage(command, key + " is " + quoted(text) + ", it must be a number");
      if (key == FIELD_VCPUS || key == FIELD_NODE) spec.putUint(key, number);
      else restart.putUint(key, number);
    } else if (TEXT_KEYS.indexOf(key) >= 0) {
      spec.putText(key, text);
    } else if (key == MODULE) {
      const comma = text.indexOf(",");
      const module = Value.map().putText(FIELD_IMAGE, comma < 0 ? text : text.substring(0, comma));
      modules.add(module.putText(FIELD_CMDLINE, comma < 0 ? "" : text.substring(comma + 1)));
    } else if (key == DEBUG_EXIT) {
      spec.putBool(FIELD_DEBUG_EXIT, isYes(text));
    } else if (key == FIELD_TAGS) {
      spec.put(FIELD_TAGS, tagsOf(text));
    } else if (key == FIELD_PROTECTED) {
      spec.putBool(FIELD_PROTECTED, isYes(text));
    } else if (key == DISK) {
      const readOnly = text.endsWith(",ro");
      const isCd = text.endsWith(",cd");
      const image = readOnly || isCd ? text.substring(0, text.length - 3) : text;
      const disk = Value.map().putText(FIELD_IMAGE, image).putBool(FIELD_READ_ONLY, readOnly);
      disks.add(isCd ? disk.putBool(FIELD_CDROM, true) : disk);
    } else if (key == FIELD_PORT) {
      ports.add(Value.string(text));
    } else if (key == NETWORK) {
      const comma = text.indexOf(",");
      const card = Value.map().putText(FIELD_NETWORK, comma < 0 ? text : text.substring(0, comma));
      networks.add(comma < 0 ? card : card.putText(FIELD_MAC, text.substring(comma + 1)));
    } else if (key == FIELD_START) {
      spec.putBool(FIELD_START, isYes(text));
    } else if (key == FIELD_RESTART) {
      restart.putText(FIELD_POLICY, text);
    } else if (SHARE_FIELDS.indexOf(key) >= 0) {
      if (!putShare(spec, key, text))
        return usage(command, key + " is " + quoted(text) + ", it must be a number");
    } else {
      return unknownKey(command, words[i], CREATE_KEYS);
    }
  }
  if (restart.items.length > 0) spec.put(FIELD_RESTART, restart);
  if (modules.items.length > 0) spec.put(FIELD_MODULES, modules);
  if (disks.items.length > 0) spec.put(FIELD_DISKS, disks);
  if (ports.items.length > 0) spec.put(FIELD_PORTS, ports);
  if (networks.items.length > 0) spec.put(FIELD_NETWORKS, networks);
  return Outcome.of(Value.map().put(FIELD_SPEC, spec));
}
