// The commands about the CLI itself: version, help, completion.

import { Protocol } from "../../protocol/schema";
import type { Command } from "../command";
import { completionScript, SHELLS } from "../completion";
import { usageError } from "../errors";
import { helpFor, helpOverview, helpTopic } from "../help";
import { manualPage } from "../man";
import { commandTable } from "../table";
import { VERSION } from "../version";

export const version: Command = {
  name: "version",
  operands: "",
  options: [],
  summary: "the version of this program",
  run: async ({ out }) => {
    if (out.json) out.object({ version: VERSION, protocol: Protocol.VERSION });
    else out.line(`plinth ${VERSION}, protocol ${Protocol.VERSION}`);
  },
};

export const help: Command = {
  name: "help",
  operands: "[COMMAND] [COMMAND]",
  options: [],
  summary: "explain a command, 'connect' or 'exit-codes'",
  run: async ({ out, args }) => {
    const name = args.operands.join(" ");
    const table = commandTable();
    const command = table.find((candidate) => candidate.name === name);
    const group = table.filter((candidate) => candidate.name.startsWith(name + " "));
    if (name === "") out.line(helpOverview(table));
    else if (command) out.line(helpFor(command));
    else if (group.length > 0) out.line(group.map(helpFor).join("\n\n"));
    else {
      const topic = helpTopic(name);
      if (topic === "") throw usageError(`there is no help on '${name}'`, "plinth help");
      out.line(topic);
    }
  },
};

export const man: Command = {
  name: "man",
  operands: "",
  options: [],
  summary: "print the manual page, for man and troff",
  examples: ["plinth man | man -l -", "plinth man > ~/.local/share/man/man1/plinth.1"],
  run: async ({ out }) => out.line(manualPage(commandTable(), VERSION)),
};

export const completion: Command = {
  name: "completion",
  operands: "SHELL",
  options: [],
  completes: SHELLS,
  summary: "print the completion script for bash, zsh or fish",
  examples: ["source <(plinth completion bash)"],
  run: async ({ out, args }) => {
    const shell = args.operands[0]!;
    if (!SHELLS.includes(shell)) {
      throw usageError(
        `no completion for '${shell}'; there is one for ${SHELLS.join(", ")}`,
        "plinth help completion",
      );
    }
    out.line(completionScript(shell, commandTable()));
  },
};
