// One run of the CLI from its words to its exit code; tests call it with streams of their own.

import kleur from "kleur";
import { type Arguments, findCommand, parseArguments } from "./arguments";
import { COLORS, Context, GLOBALS, type Command } from "./command";
import { ErrorCode, type PlinthError, toPlinthError, usageError } from "./errors";
import { helpFor, helpOverview } from "./help";
import { Output, type World } from "./output";
import { PROGRESS } from "./progress";
import { commandTable } from "./table";

/** Runs one command line and returns the exit code. */
export async function run(argv: readonly string[], world: World): Promise<number> {
  let out = new Output(world, argv.includes("--json"));
  try {
    const { command, rest } = chooseCommand(argv);
    if (!command) {
      const asked = argv.includes("--help") || argv.includes("-h");
      if (asked) out.line(helpOverview(commandTable()));
      else out.talk(helpOverview(commandTable()));
      return asked ? 0 : ErrorCode.USAGE;
    }
    if (rest.includes("--help") || rest.includes("-h")) {
      out.line(helpFor(command));
      return 0;
    }
    const args = parseArguments(rest, command, GLOBALS);
    const progress = oneOf(args, "progress", PROGRESS);
    out = new Output(world, args.has("json"), oneOf(args, "color", COLORS), progress);
    const context = new Context(args, out);
    try {
      await command.run(context);
      return 0;
    } finally {
      await context.close();
    }
  } catch (error) {
    const problem = toPlinthError(error);
    printError(problem, out);
    return problem.code;
  }
}

/** The value of an option that has few; "auto" if it is not given. */
function oneOf(args: Arguments, option: string, values: readonly string[]): string {
  const value = args.value(option) ?? "auto";
  if (values.includes(value)) return value;
  throw usageError(`--${option}: '${value}' is none of ${values.join(", ")}`);
}

/** `--version` is what people try first. */
function chooseCommand(argv: readonly string[]): { command: Command | undefined; rest: string[] } {
  const table = commandTable();
  const words = argv[0] === "--version" || argv[0] === "-V" ? ["version", ...argv.slice(1)] : argv;
  return findCommand(words, table, GLOBALS);
}

/** Object, cause and the next command to type. */
function printError(problem: PlinthError, out: Output): void {
  if (out.json) {
    out.talk(JSON.stringify(problem));
    return;
  }
  out.talk(`${kleur.red("plinth:")} ${problem.message}`);
  if (problem.next) out.talk(`next: ${problem.next}`);
}
