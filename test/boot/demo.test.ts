// `make run` without a terminal: the demonstration plays to its end, and its transcript shows all of it.
// rigs: best

import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { runDir } from "./host";

/** Plays it as `make run </dev/null` does, in a directory of its own. */
function play(): Promise<{ code: number | null; text: string }> {
  const args = [join("build", "tools", "run.cjs"), "--run-dir", runDir("demo")];
  return new Promise((done) => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    child.on("close", (code) => done({ code, text: text.replace(/\r/g, "") }));
  });
}

/** What must be in the transcript, in this order. */
const STORY = [
  /^rig: (bochs|qemu-tcg|qemu-kvm), .+$/m,
  /\bcpu\b.*\S/i,
  /plinth control \d+\.\d+\.\d+ \(/,
  /\$ plinth status\n/,
  /\$ plinth console ada --expect 'ada is up'/, // what a VM printed before somebody came is not shown
  /\$ plinth console bob --expect 'bob is up'/,
  /"name": "ada",\n\s*"state": "running",(.*\n)*?\s*"memory": 134217728,/,
  /"name": "bob",\n\s*"state": "running",(.*\n)*?\s*"memory": 100663296,/,
  /^ada$/m,
  /^Linux ada \d+\./m,
  /^Mem: /m,
  /^.*plinth\.name=ada/m,
  /^bob$/m,
  /^Linux bob \d+\./m,
  /^Mem: /m,
  /^.*plinth\.name=bob plinth\.role=second/m,
  /^tick ada \d/m,
  /\$ plinth pause ada --wait\n/,
  /"state": "paused"/,
  /^three seconds$/m,
  /\$ plinth resume ada --wait\n/,
  /^tick ada \d/m,
  /\$ plinth stop ada --wait\n/,
  /"state": "stopped"/,
  /\$ plinth rm ada --wait\n/,
  /\$ plinth create ada /,
  /\$ plinth console ada --expect 'ada is up'/,
  /\$ plinth stop ada --force --wait\n/,
  /\$ plinth rm ada --wait\n/,
  /^bob$/m,
  /"name": "bob",\n\s*"state": "running"/,
  /^demo: every step did what it should$/m,
];

test("the demonstration ends with 0 and shows every step", async () => {
  const { code, text } = await play();
  assert.is(code, 0, text);
  let rest = text;
  for (const pattern of STORY) {
    const match = pattern.exec(rest);
    assert.ok(match, `${pattern} is missing in:\n${rest}`);
    rest = rest.slice(match.index + match[0].length);
  }
  const free = [...text.matchAll(/"free": (\d+)/g)].map((match) => Number(match[1]));
  assert.is(free.at(-1), free.at(-2), "free memory after ada was removed a second time");
});

test.run();
