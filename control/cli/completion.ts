// Completion scripts for bash, zsh and fish, made from the table of commands.

import type { Option } from "./arguments";
import { GLOBALS, type Command } from "./command";
import { TOPIC_NAMES } from "./help";

export const SHELLS: readonly string[] = ["bash", "zsh", "fish"];

/** What lists the names of VMs, fast and silently, for a shell. */
const LIST_VMS = `plinth ls --json --timeout 2s 2>/dev/null | sed -n 's/^ *"name": "\\(.*\\)",*$/\\1/p'`;

/** The same for tenants. */
const LIST_TENANTS = LIST_VMS.replace("plinth ls", "plinth tenants");

/** And for the snapshots on the host. */
const LIST_SNAPSHOTS = LIST_VMS.replace("plinth ls", "plinth snapshot ls");

/** The script for one shell. */
export function completionScript(shell: string, table: readonly Command[]): string {
  const listed = table.filter((command) => !command.hidden);
  if (shell === "fish") return fish(listed);
  return shell === "zsh"
    ? `#compdef plinth\nautoload -U +X bashcompinit && bashcompinit\n${bash(listed)}`
    : bash(listed);
}

function bash(table: readonly Command[]): string {
  return `# completion of plinth for bash; use: source <(plinth completion bash)
_plinth() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} command= n words=
  for ((n = 1; n < COMP_CWORD; n++)); do
    case \${COMP_WORDS[n]} in
      ${GLOBALS.filter(({ value }) => value)
        .map(({ name }) => `--${name}`)
        .join("|")}) ((n++)) ;;
      -*) ;;
      *) command="\${command:+$command }\${COMP_WORDS[n]}"
        case $command in ${[...groups(table), "help"].join("|")}) ;; *) break ;; esac ;;
    esac
  done
  case "$command|$before" in
${valueCases(table)}
    *) case "$command" in
      "") words="${firstWords(table).join(" ")}" ;;
${groupCases(table)}
${operandCases(table)}
    esac
    if [[ $word == -* ]]; then
      case "$command" in
${optionCases(table)}
        *) words="${optionNames(GLOBALS)}" ;;
      esac
    fi ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _plinth plinth`;
}

/** Values of options: files, or fixed words. */
function valueCases(table: readonly Command[]): string {
  const cases = GLOBALS.map((option) => valueCase("*'", option));
  for (const command of table) {
    for (const option of command.options) cases.push(valueCase(`'${command.name}`, option));
  }
  return cases.filter((line) => line !== "").join("\n");
}

function valueCase(pattern: string, option: Option): string {
  if (!option.value || option.optional || !option.choices) return "";
  const names = [`--${option.name}`, ...(option.short ? [`-${option.short}`] : [])];
  const patterns = names.map((name) => `${pattern}|${name}'`).join("|");
  if (option.choices[0] === "file") return `    ${patterns}) COMPREPLY=($(compgen -f -- "$word")); return ;;`;
  if (option.choices[0] === "tenant") return `    ${patterns}) words=$(${LIST_TENANTS}) ;;`;
  return `    ${patterns}) words="${option.choices.join(" ")}" ;;`;
}

/** What an operand may be: what a command prints, or fixed words. */
function operandWords({ completes }: Command): string {
  if (completes === "vm") return `$(${LIST_VMS})`;
  if (completes === "snapshot") return `$(${LIST_SNAPSHOTS})`;
  return completes === "tenant" ? `$(${LIST_TENANTS})` : (completes ?? []).join(" ");
}

function operandCases(table: readonly Command[]): string {
  const cases = [`      help) words="${[...firstWords(table), ...TOPIC_NAMES].join(" ")}" ;;`];
  for (const command of table) {
    if (command.completes?.[0] === "file") {
      cases.push(`      "${command.name}") COMPREPLY=($(compgen -f -- "$word")); return ;;`);
      continue;
    }
    const words = [operandWords(command), ...(command.keys ?? [])].filter((word) => word !== "").join(" ");
    if (words !== "") cases.push(`      "${command.name}") words="${words}" ;;`);
  }
  return cases.join("\n");
}

/** The first words of commands that have two. */
function groups(table: readonly Command[]): string[] {
  const first = table.filter(({ name }) => name.includes(" ")).map(({ name }) => name.split(" ")[0]!);
  return [...new Set(first)];
}

function groupCases(table: readonly Command[]): string {
  return groups(table)
    .map((group) => `      ${group}) words="${secondWords(table, group).join(" ")}" ;;`)
    .join("\n");
}

function optionCases(table: readonly Command[]): string {
  return table
    .filter((command) => command.options.length > 0)
    .map(
      (command) => `        "${command.name}") words="${optionNames([...command.options, ...GLOBALS])}" ;;`,
    )
    .join("\n");
}

function fish(table: readonly Command[]): string {
  const quote = (text: string): string => `'${text.replace(/\\/g, "\\\\").replace(/'/g, "\\'")}'`;
  const lines = [
    "# completion of plinth for fish; use: plinth completion fish | source",
    "complete -c plinth -f",
  ];
  for (const word of firstWords(table)) {
    const named = table.find((command) => command.name === word)?.summary;
    const summary = named ?? `${secondWords(table, word).join(", ")} (${word})`;
    lines.push(`complete -c plinth -n __fish_use_subcommand -a ${word} -d ${quote(summary)}`);
  }
  for (const command of table) {
    const [first, second] = command.name.split(" ");
    const group = `__fish_seen_subcommand_from ${first}`;
    const seen = second ? `${group}; and __fish_seen_subcommand_from ${second}` : group;
    if (second) {
      const open = `${group}; and not __fish_seen_subcommand_from ${secondWords(table, first!).join(" ")}`;
      lines.push(`complete -c plinth -n ${quote(open)} -a ${second} -d ${quote(command.summary)}`);
    }
    const words = operandWords(command).replace(/^\$/, "");
    if (words === "file") lines.push(`complete -c plinth -n ${quote(seen)} -F`);
    else if (words !== "") lines.push(`complete -c plinth -n ${quote(seen)} -a ${quote(words)}`);
    if (command.keys) lines.push(`complete -c plinth -n ${quote(seen)} -a ${quote(command.keys.join(" "))}`);
    for (const option of command.options) lines.push(fishOption(option, `-n ${quote(seen)} `, quote));
  }
  for (const option of GLOBALS) lines.push(fishOption(option, "", quote));
  return lines.join("\n");
}

function fishOption(option: Option, condition: string, quote: (text: string) => string): string {
  const short = option.short ? ` -s ${option.short}` : "";
  const value = option.value && !option.optional ? (option.choices?.[0] === "file" ? " -r -F" : " -x") : "";
  const words = option.choices?.[0] === "tenant" ? `(${LIST_TENANTS})` : option.choices?.join(" ");
  const fixed = value === " -x" && words ? ` -a ${quote(words)}` : "";
  return `complete -c plinth ${condition}-l ${option.name}${short}${value}${fixed} -d ${quote(option.summary)}`;
}

function firstWords(table: readonly Command[]): string[] {
  return [...new Set(table.map((command) => command.name.split(" ")[0]!))];
}

function secondWords(table: readonly Command[], first: string): string[] {
  return table
    .filter((command) => command.name.startsWith(first + " "))
    .map((command) => command.name.split(" ")[1]!);
}

function optionNames(options: readonly Option[]): string {
  return options.map((option) => `--${option.name}`).join(" ");
}
