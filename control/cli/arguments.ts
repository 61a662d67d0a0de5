// Turns the command line into one command of the table, its operands and its options.

import { parseArgs } from "node:util";
import { usageError } from "./errors";
import { nearest } from "./nearest";

/** An option of a command. */
export interface Option {
  name: string;
  short?: string;
  /** Name of its value in help; without one it is a switch. */
  value?: string;
  /** The value may be left out, and needs "=" when given. */
  optional?: boolean;
  /** May be given more than once. */
  repeat?: boolean;
  /** Words that complete the value; "vm" stands for the names of VMs, "file" for files. */
  choices?: readonly string[];
  summary: string;
}

/** What of a command the parser needs to know. */
export interface Syntax {
  /** One word, or two: "rig up". */
  name: string;
  /** "NAME", "[NAME]", "NAME..." or "". */
  operands: string;
  options: readonly Option[];
}

/** One option as it was given. */
export interface Given {
  name: string;
  value: string;
}

/** A command line that has been understood. */
export class Arguments {
  readonly operands: readonly string[];
  /** Options in the order in which they were given. */
  readonly given: readonly Given[];

  constructor(operands: readonly string[], given: readonly Given[]) {
    this.operands = operands;
    this.given = given;
  }

  has(name: string): boolean {
    return this.given.some((option) => option.name === name);
  }

  /** All values given, in their order. */
  values(name: string): string[] {
    return this.given.filter((option) => option.name === name).map((option) => option.value);
  }

  /** The last value given; undefined if there is none. An optional value that was left out is "". */
  value(name: string): string | undefined {
    return this.given.filter((option) => option.name === name).pop()?.value;
  }
}

/** Finds the command in the table; the rest of the words are its own. */
export function findCommand<T extends Syntax>(
  argv: readonly string[],
  table: readonly T[],
  globals: readonly Option[],
): { command: T | undefined; rest: string[] } {
  const at = firstWord(argv, globals);
  if (at < 0) return { command: undefined, rest: [...argv] };
  const first = argv[at]!;
  const group = table.filter((command) => command.name.startsWith(first + " "));
  const command = table.find((candidate) => candidate.name === first);
  const isLonger = group.some((candidate) => candidate.name === `${first} ${argv[at + 1]}`);
  if (group.length > 0 && (!command || isLonger)) return findInGroup(argv, at, group);
  if (command) return { command, rest: without(argv, at, 1) };
  const words = table.map((candidate) => candidate.name.split(" ")[0]!);
  const meant = nearest(first, words);
  throw usageError(`unknown command '${first}'`, meant ? `plinth ${meant}` : "plinth help");
}

function findInGroup<T extends Syntax>(
  argv: readonly string[],
  at: number,
  group: readonly T[],
): { command: T; rest: string[] } {
  const first = argv[at]!;
  const second = argv[at + 1] ?? "";
  const command = group.find((candidate) => candidate.name === `${first} ${second}`);
  if (command) return { command, rest: without(argv, at, 2) };
  const words = group.map((candidate) => candidate.name.split(" ")[1]!);
  const help = second === "--help" || second === "-h" || second === "";
  const problem = help
    ? `'${first}' needs one of: ${words.join(", ")}`
    : `unknown command '${first} ${second}'`;
  throw usageError(problem, `plinth ${first} ${nearest(second, words) || words[0]}`);
}

/** Index of the first word that is neither an option nor the value of a global option. */
function firstWord(argv: readonly string[], globals: readonly Option[]): number {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!;
    if (word === "--") return -1;
    if (!word.startsWith("-")) return at;
    const option = globals.find((candidate) => word === `--${candidate.name}`);
    if (option?.value && !option.optional) at++;
  }
  return -1;
}

function without(argv: readonly string[], at: number, count: number): string[] {
  return [...argv.slice(0, at), ...argv.slice(at + count)];
}

/** Checks the words of one command against its syntax. */
export function parseArguments(
  rest: readonly string[],
  syntax: Syntax,
  globals: readonly Option[],
): Arguments {
  const options = [...syntax.options, ...globals];
  const known = Object.fromEntries(
    options.map((option) => [
      option.name,
      {
        type: (option.value && !option.optional ? "string" : "boolean") as "string" | "boolean",
        multiple: true,
        ...(option.short ? { short: option.short } : {}),
      },
    ]),
  );
  const parsed = parseArgs({
    args: [...rest],
    options: known,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const given: Given[] = [];
  for (const token of parsed.tokens) {
    if (token.kind !== "option") continue;
    given.push(checkOption(token.name, token.rawName, token.value, options, syntax));
  }
  checkRepeats(given, options, syntax);
  checkOperands(parsed.positionals, syntax);
  return new Arguments(parsed.positionals, given);
}

function checkOption(
  name: string,
  rawName: string,
  value: string | undefined,
  options: readonly Option[],
  syntax: Syntax,
): Given {
  const help = `plinth help ${syntax.name}`;
  const option = options.find((candidate) => candidate.name === name);
  if (!option) {
    const names = options.map((candidate) => `--${candidate.name}`);
    const meant = nearest(rawName, names);
    const hint = meant ? `; did you mean '${meant}'?` : "";
    throw usageError(`'plinth ${syntax.name}' has no option '${rawName}'${hint}`, help);
  }
  if (!option.value && value !== undefined) throw usageError(`'${rawName}' takes no value`, help);
  const missing = value === undefined || (value.startsWith("--") && value.length > 2);
  if (option.value && !option.optional && missing) {
    throw usageError(`'${rawName}' needs a value: ${rawName} ${option.value}`, help);
  }
  return { name: option.name, value: value ?? "" };
}

function checkRepeats(given: readonly Given[], options: readonly Option[], syntax: Syntax): void {
  for (const option of options) {
    const times = given.filter((candidate) => candidate.name === option.name).length;
    if (times > 1 && option.value && !option.repeat) {
      throw usageError(`'--${option.name}' is given ${times} times`, `plinth help ${syntax.name}`);
    }
  }
}

function checkOperands(operands: readonly string[], syntax: Syntax): void {
  const help = `plinth help ${syntax.name}`;
  const expected = syntax.operands.split(" ").filter((word) => word !== "");
  const needed = expected.filter((word) => !word.startsWith("["));
  if (operands.length < needed.length) {
    throw usageError(`'plinth ${syntax.name}' needs ${needed[operands.length]!.replace("...", "")}`, help);
  }
  const many = expected.some((word) => word.includes("..."));
  if (!many && operands.length > expected.length) {
    throw usageError(
      `'plinth ${syntax.name}' does not know what to do with '${operands[expected.length]}'`,
      help,
    );
  }
}
