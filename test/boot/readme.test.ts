// Runs every `plinth` command of the README, in its order, on a rig as a reader would.
// rigs: AMD-V, VT-x (long)

import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { runDir } from "./host";

const run = promisify(execFile);
const test = suite("README");

/** The lines of its blocks marked as shell. */
function commands(): string[] {
  const blocks = [...readFileSync("README.md", "utf8").matchAll(/^```sh\n(.*?)^```$/gms)];
  return blocks.flatMap((block) => block[1]!.trim().split("\n"));
}

/** Where the reader is: a rig has its files below the working directory, and two rigs may run this at once. */
const CWD = runDir("readme");

/** A reader's shell, in which `plinth` is the bundled tool; the limits are generous, not expected. */
async function shell(line: string): Promise<string> {
  const tool = `plinth() { node '${resolve("build", "plinth.cjs")}' "$@"; }\n`;
  const { stdout } = await run("bash", ["-c", tool + line], { cwd: CWD, timeout: 300_000 });
  return stdout;
}

test.before(() => {
  rmSync(CWD, { recursive: true, force: true });
  mkdirSync(join(CWD, "build"), { recursive: true });
  symlinkSync(resolve("boot"), join(CWD, "boot"));
});

test("has commands", () => {
  assert.ok(commands().length > 15);
  assert.is(commands()[0], "plinth rig up");
  assert.is(commands().at(-1), "plinth rig down");
});

test("its commands work", async () => {
  try {
    for (const line of commands()) {
      assert.ok(line.startsWith("plinth "), `not a plinth command: ${line}`);
      await shell(line).catch((error: Error & { stderr?: string }) => {
        throw new Error(`${line}: ${error.stderr ?? error.message}`);
      });
    }
  } finally {
    await shell("plinth rig down").catch(() => undefined);
  }
});

test.run();
