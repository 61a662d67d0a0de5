// The manual page, in troff, made from the table of commands.

import type { Option } from "./arguments";
import { GLOBALS, type Command } from "./command";
import { helpTopic, optionText, sentence, TOPIC_NAMES, usage } from "./help";

/** The page plinth(1). */
export function manualPage(table: readonly Command[], version: string): string {
  const listed = table.filter((command) => !command.hidden);
  return [
    `.TH PLINTH 1 "" "Plinth ${version}" "User Commands"`,
    ".SH NAME",
    "plinth \\- manage a Plinth host: its VMs, their consoles, and the rig it may run on",
    ".SH SYNOPSIS",
    ".B plinth",
    ".I COMMAND",
    "[\\fIOPTIONS\\fR]",
    ".SH COMMANDS",
    ...listed.flatMap(commandLines),
    ".SH OPTIONS OF EVERY COMMAND",
    ...GLOBALS.flatMap(optionLines),
    ...TOPIC_NAMES.flatMap((name) => [
      `.SH ${name.toUpperCase().replace("-", " ")}`,
      ".nf",
      ...escapeLines(helpTopic(name)),
      ".fi",
    ]),
  ].join("\n");
}

function commandLines(command: Command): string[] {
  return [
    `.SS ${escapeText(`plinth ${usage(command)}`)}`,
    ...escapeLines(sentence(command.summary)),
    ...(command.details ? escapeLines(command.details) : []),
    ...command.options.flatMap(optionLines),
    ...(command.examples ?? []).flatMap((example) => [".IP", ".EX", ...escapeLines(example), ".EE"]),
  ];
}

function optionLines(option: Option): string[] {
  return [".TP", `\\fB${escapeText(optionText(option))}\\fR`, ...escapeLines(option.summary)];
}

function escapeText(text: string): string {
  return text.replace(/\\/g, "\\e").replace(/-/g, "\\-").replace(/"/g, "\\(dq");
}

/** Lines that begin with a control character of troff get a mark in front. */
function escapeLines(text: string): string[] {
  return text.split("\n").map((line) => escapeText(line).replace(/^(?=[.'])/, "\\&"));
}
