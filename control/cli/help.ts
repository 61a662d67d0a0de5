// Help texts, all made from the table of commands.

import kleur from "kleur";
import type { Option } from "./arguments";
import { GLOBALS, type Command } from "./command";

/** What `plinth help` says. */
export function helpOverview(table: readonly Command[]): string {
  const listed = table.filter((command) => !command.hidden);
  const width = Math.max(...listed.map((command) => usage(command).length));
  return [
    "plinth manages a Plinth host: its VMs, their consoles, and the rig it may run on.",
    "",
    `${kleur.bold("usage:")} plinth COMMAND [OPTIONS]`,
    "",
    ...listed.map((command) => `  ${usage(command).padEnd(width)}  ${command.summary}`),
    "",
    kleur.bold("options of every command:"),
    ...optionLines(GLOBALS),
    "",
    "More: plinth help COMMAND, plinth help connect, plinth help exit-codes, plinth man",
  ].join("\n");
}

/** What `plinth help COMMAND` says. */
export function helpFor(command: Command): string {
  const lines = [
    `${kleur.bold("usage:")} plinth ${usage(command)}${command.options.length ? " [OPTIONS]" : ""}`,
    "",
    sentence(command.summary),
  ];
  if (command.details) lines.push(command.details);
  if (command.options.length > 0) lines.push("", kleur.bold("options:"), ...optionLines(command.options));
  lines.push("", kleur.bold("options of every command:"), ...optionLines(GLOBALS));
  if (command.examples)
    lines.push("", kleur.bold("examples:"), ...command.examples.map((example) => `  ${example}`));
  return lines.join("\n");
}

/** What `plinth help TOPIC` says; "" if there is no such topic. */
export function helpTopic(name: string): string {
  return TOPICS[name] ?? "";
}

/** The topics that are no commands. */
export const TOPIC_NAMES: readonly string[] = ["connect", "exit-codes"];

const TOPICS: Record<string, string> = {
  connect: [
    "How plinth finds the host, the first that is given:",
    "  --socket PATH          a Unix socket, such as the one of a rig",
    "  --tcp HOST:PORT        a serial server: ser2net, conserver, a BMC's serial over LAN",
    "  --device PATH          a serial line or a pty; it is set to 115200 8N1, raw",
    "  $PLINTH_CONNECT        unix:PATH, tcp:HOST:PORT, device:PATH, or a bare path",
    "  build/run/plinth.sock  the rig that 'plinth rig up' started here; else $XDG_RUNTIME_DIR/plinth.sock",
    "",
    "Pages of snapshots go over a second line, if the host has one: NAME-bulk.sock beside NAME.sock, or --bulk ADDRESS.",
    "",
    "Several plinth may share a rig's socket. A serial device belongs to one at a time.",
  ].join("\n"),
  "exit-codes": [
    "  0  done",
    "  1  failed",
    "  2  the command line is wrong",
    "  3  there is no such object",
    "  4  the object is in the wrong state, or exists already",
    "  5  the host cannot be reached, or did not answer in time",
    "  6  denied by the host's policy",
    "  7  integrity: versions that do not fit, data that is damaged",
    "130  interrupted",
    "",
    "Data goes to stdout, everything else to stderr. With --json an error is one line of JSON on stderr.",
  ].join("\n"),
};

export function usage(command: Command): string {
  return `${command.name} ${command.operands}`.trim();
}

function optionLines(options: readonly Option[]): string[] {
  const names = options.map(optionText);
  const width = Math.max(...names.map((name) => name.length));
  return options.map((option, n) => `  ${names[n]!.padEnd(width)}  ${option.summary}`);
}

export function optionText(option: Option): string {
  const short = option.short ? `-${option.short}, ` : "";
  if (!option.value) return `${short}--${option.name}`;
  return option.optional
    ? `${short}--${option.name}[=${option.value}]`
    : `${short}--${option.name} ${option.value}`;
}

export function sentence(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1) + ".";
}
