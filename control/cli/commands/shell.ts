// `plinth shell`: the terminal of a person on the line itself, as if it were a serial terminal.

import { FrameReader } from "../../protocol/node/frame";
import type { Command } from "../command";
import { attachTerminal } from "../terminal";
import { addressText, openTransport } from "../transport";

export const shell: Command = {
  name: "shell",
  operands: "",
  options: [],
  summary: "attach the terminal to the host's own shell",
  details: [
    "The same commands, on the host's side: 'help' lists them. Leave with ~. at the start of a line, or with Ctrl-];",
    "~~. leaves the console of a VM that is attached to in it.",
  ].join("\n"),
  run: async (context) => {
    const { world, out, address } = context;
    const stream = await openTransport(address, context.timeout);
    out.talk(
      `shell of the host at ${addressText(address)}; leave with ~. at the start of a line, or with Ctrl-]`,
    );
    const reader = new FrameReader({ message: () => undefined, text: (bytes) => world.stdout.write(bytes) });
    let silence: NodeJS.Timeout | undefined;
    const ended = new Promise<string>((resolve) => {
      stream.on("error", (error: Error) => resolve(error.message));
      stream.on("close", () => resolve("the host closed it"));
      stream.on("data", (bytes: Buffer) => {
        reader.feed(bytes);
        clearTimeout(silence);
        silence = setTimeout(() => reader.flush(), 200);
      });
    });
    const terminal = attachTerminal(world, (bytes) => void stream.write(bytes));
    if (world.stdin.isTTY) stream.write("\r"); // shows the prompt
    try {
      const cause = await Promise.race([terminal.left.then(() => ""), ended]);
      // A pipe ends at once: give the host time to answer what was typed.
      if (cause === "" && !world.stdin.isTTY) await quiet(stream);
      out.talk(cause === "" ? "\r\nleft the shell" : `\r\nthe connection ended: ${cause}`);
    } finally {
      terminal.restore();
      clearTimeout(silence);
      reader.flush();
      stream.destroy();
    }
  },
};

/** Resolves when nothing has come for a second. */
function quiet(stream: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    let timer = setTimeout(resolve, 1000);
    stream.on("data", () => {
      clearTimeout(timer);
      timer = setTimeout(resolve, 1000);
    });
    stream.on("close", () => resolve());
  });
}
