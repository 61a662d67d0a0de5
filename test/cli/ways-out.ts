// What `plinth migrate` tells a person to do, when it fails and before it is ended: its commands, ready to be run.

import { runCli } from "./run-cli";

/** Whoever the CLI reaches. */
interface Reachable {
  path: string;
}

/** Of what the tool has said, what a person is to do: each list is one way out. */
export function waysOut(stderr: string): string[] {
  const undecided = /; to finish: (.*); or, to take it back: (.*)/.exec(stderr);
  if (undecided) return [undecided[1]!, undecided[2]!];
  const left = /left to do: (.*)/.exec(stderr);
  return left ? [left[1]!] : [""];
}

/** Of what it had said before it was ended, the same. */
export function waysOutOfDeath(stderr: string): string[] {
  const lines = [...stderr.matchAll(/; if this program is ended now: (.*)/g)].map(([, text]) => text!);
  return (lines[lines.length - 1] ?? "").split("; or: ");
}

/** Runs the commands of one way in their order, each on the host that it names. */
export async function follow(
  text: string,
  here: Reachable,
  there: Reachable,
  timeout: string,
): Promise<void> {
  for (const [, words, where] of text.matchAll(/plinth ([^;,\n]*?)(, on \S*?)?(?=[;\n]|$)/g)) {
    const argv = [...words!.trim().split(" "), "--timeout", timeout];
    await runCli(where === undefined ? here : there, argv, { env: {} });
  }
}
