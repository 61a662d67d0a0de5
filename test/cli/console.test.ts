// `plinth console`: for a person, from a pipe, and as a script; through restarts, other clients and resets.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { connect } from "../../control/cli/client";
import { EscapeReader } from "../../control/cli/escape";
import { frameEncode } from "../../control/protocol/node/frame";
import * as schema from "../../control/protocol/schema";
import { FakeHost } from "./fake-host";
import { runCli, startCli, until } from "./run-cli";

const test = suite<{ host: FakeHost }>("console");

test.before.each(async (context) => {
  const host = await FakeHost.start();
  host.add("a", "running", "Welcome\r\nlogin: ");
  host.onTyped = (vm, text) => {
    if (text.includes("uname")) host.print(vm, "uname -a\r\nLinux a 6.1 x86_64\r\n# ");
  };
  context.host = host;
});
test.after.each(async (context) => context.host.stop());

function attached(host: FakeHost): boolean {
  return host.requests.some((request) => request.op === schema.OP_EVENTS_WATCH);
}

test("a person sees the banner and the scroll-back, types, and leaves with ~.", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => running.stdout().includes("login: "), "scroll-back");
  await until(() => attached(host), "attachment");
  assert.match(running.stderr(), /console of a; leave with ~\. at the start of a line, or with Ctrl-\]/);
  assert.ok(running.raw());
  running.stdin.write("uname\r");
  await until(() => running.stdout().includes("x86_64"), "the answer");
  running.stdin.write("~.");
  assert.is((await running.result).code, 0);
  assert.not(running.raw());
  assert.is(host.vms.get("a")!.typed, "uname\r");
  assert.match(running.stderr(), /left the console of a/);
});

test("Ctrl-] leaves in the middle of a line; ~? explains; ~~ is one ~", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  running.stdin.write("~?");
  await until(() => running.stderr().includes("send one ~"), "help");
  running.stdin.write("~~ab~.c\x1dnever");
  assert.is((await running.result).code, 0);
  assert.is(host.vms.get("a")!.typed, "~ab~.c");
});

test("escapes count only at the start of a line", () => {
  const typed = (keys: string): string => {
    let text = "";
    const reader = new EscapeReader({
      send: (bytes) => (text += Buffer.from(bytes).toString("latin1")),
      leave: () => (text += "<left>"),
      help: () => (text += "<help>"),
    });
    for (const key of Buffer.from(keys, "latin1")) reader.feed(Uint8Array.of(key));
    return text;
  };
  assert.is(typed("~."), "<left>");
  assert.is(typed("a~.b"), "a~.b");
  assert.is(typed("a\r~."), "a\r<left>");
  assert.is(typed("a\n~."), "a\n<left>");
  assert.is(typed("~x"), "~x");
  assert.is(typed("~~."), "~.");
  assert.is(typed("~?~."), "<help><left>");
  assert.is(typed("~\r~."), "~\r<left>");
  assert.is(typed("abc\x1d"), "abc<left>");
  // A shell that asks for the cursor at each prompt, and the terminal's answer to that.
  assert.is(typed("a\r\x1b[24;80R~."), "a\r\x1b[24;80R<left>");
  assert.is(typed("a\x1b[24;80R~."), "a\x1b[24;80R~.");
  assert.is(typed("\r\x1b[A~."), "\r\x1b[A~.");
  assert.is(typed("\r\x1b\x1b[5;1R~."), "\r\x1b\x1b[5;1R<left>");
});

test("read-only drops what is typed", async ({ host }) => {
  const running = startCli(host, ["console", "a", "--read-only"], { tty: true });
  await until(() => attached(host), "attachment");
  running.stdin.write("rm -rf /\r~.");
  assert.is((await running.result).code, 0);
  assert.is(host.vms.get("a")!.typed, "");
  assert.match(running.stderr(), /console of a, read-only/);
});

test("a VM that does not exist is refused before the terminal changes", async ({ host }) => {
  const running = startCli(host, ["console", "b"], { tty: true });
  assert.is((await running.result).code, 3);
  assert.not(running.raw());
});

test("send and expect, in order", async ({ host }) => {
  const argv = ["console", "a", "--expect", "login:", "--send", "uname -a\\n", "--expect", "^Linux .*_64$"];
  const { code, stdout, stderr } = await runCli(host, argv);
  assert.is(code, 0, stderr);
  assert.is(stdout, "login:\nuname -a\r\nLinux a 6.1 x86_64\r\n# \n");
  assert.is(host.vms.get("a")!.typed, "uname -a\n");
});

test("what was printed before a send cannot satisfy the expectation after it", async ({ host }) => {
  host.onTyped = () => undefined;
  const { code, stderr } = await runCli(host, [
    "console",
    "a",
    "--send",
    "x\\n",
    "--expect",
    "login:",
    "--timeout",
    "400ms",
  ]);
  assert.is(code, 5);
  assert.match(
    stderr,
    /a: step 2 of 2 \(--expect 'login:'\) did not happen within 400 ms; its console printed nothing/,
  );
  assert.match(stderr, /next: plinth logs a/);
});

test("a time-out shows the last lines", async ({ host }) => {
  const { code, stderr } = await runCli(host, [
    "console",
    "a",
    "--send",
    "uname\\n",
    "--expect",
    "never",
    "--timeout",
    "600ms",
  ]);
  assert.is(code, 5);
  assert.match(stderr, /last lines of its console:\n {2}\| uname -a\n {2}\| Linux a 6.1 x86_64\n {2}\| #/);
});

test("a script that fails leaves the console to others", async ({ host }) => {
  const argv = ["console", "a", "--send", "x", "--expect", "never", "--timeout", "300ms"];
  assert.is((await runCli(host, argv)).code, 5);
  assert.is((await runCli(host, ["console", "a", "--send", "y"])).code, 0);
});

test("output that comes later and in pieces matches", async ({ host }) => {
  const running = startCli(host, ["console", "a", "--expect", "ready in \\d+ s"]);
  await until(() => attached(host), "attachment");
  host.print("a", "rea");
  await new Promise((resolve) => setTimeout(resolve, 30));
  host.print("a", "dy in 12 s\n");
  assert.is((await running.result).code, 0);
});

test("a crash while expecting ends the wait with its reason", async ({ host }) => {
  const running = startCli(host, ["console", "a", "--expect", "never"]);
  await until(() => attached(host), "attachment");
  host.event(schema.EVENT_VM_CRASHED, "a", "a crashed: triple fault");
  const { code, stderr } = await running.result;
  assert.is(code, 1);
  assert.match(stderr, /a: a crashed: triple fault, in step 1 of 1 \(--expect 'never'\)/);
});

test("what came before the end satisfies, even at the very end of the output", async ({ host }) => {
  const running = startCli(host, ["console", "a", "--expect", "^result: .*"]);
  await until(() => attached(host), "attachment");
  host.print("a", "\nresult: success");
  host.event(schema.EVENT_VM_OFF, "a", "powered off");
  assert.is((await running.result).code, 0);
});

test("a last --send shows the answer", async ({ host }) => {
  const { code, stdout } = await runCli(host, ["console", "a", "--send", "uname\\n"]);
  assert.is(code, 0);
  assert.match(stdout, /x86_64/);
});

test("from a pipe: scroll-back, stdin typed, the answer", async ({ host }) => {
  const { code, stdout } = await runCli(host, ["console", "a"], { stdin: "uname\n" });
  assert.is(code, 0);
  assert.match(stdout, /^Welcome\r\nlogin: uname -a\r\nLinux/);
  assert.is(host.vms.get("a")!.typed, "uname\n");
});

test("--json prints records with positions", async ({ host }) => {
  const { stdout } = await runCli(host, ["console", "a", "--json"], { stdin: "" });
  assert.equal(JSON.parse(stdout), { vm: "a", at: 0, text: "Welcome\r\nlogin: " });
});

test("--log keeps a copy", async ({ host }) => {
  const log = join(host.folder, "console.log");
  await runCli(host, ["console", "a", "--send", "uname\\n", "--expect", "x86_64", "--log", log]);
  assert.match(readFileSync(log, "utf8"), /Welcome.*x86_64/s);
});

test("a slow reader gets everything once, in order", async ({ host }) => {
  host.faults.takes = 3;
  const { code } = await runCli(host, ["console", "a", "--send", "0123456789", "--timeout", "20s"]);
  assert.is(code, 0);
  assert.is(host.vms.get("a")!.typed, "0123456789");
});

test("64 KiB of scroll-back arrive whole", async ({ host }) => {
  const text = Array.from({ length: 8000 }, (_, n) => `${n}\n`).join("");
  host.vms.get("a")!.output = Buffer.from(text);
  const { stdout } = await runCli(host, ["console", "a"], { stdin: "" });
  assert.is(stdout, text);
});

test("a restart of the control domain loses and repeats nothing", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  host.restart();
  host.print("a", "printed while nobody was attached\r\n");
  await until(() => running.stdout().includes("nobody"), "the console resumes");
  running.stdin.write("\x1d");
  await running.result;
  assert.is(running.stdout(), "Welcome\r\nlogin: printed while nobody was attached\r\n");
});

test("another client's hello and attachment do not disturb", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  assert.is((await runCli(host, ["console", "a", "--expect", "login:"])).stdout, "login:\n");
  host.print("a", "after\r\n");
  await until(() => running.stdout().includes("after"), "output after the other client left");
  running.stdin.write("\x1d");
  await running.result;
  assert.is(running.stdout(), "Welcome\r\nlogin: after\r\n");
});

test("a VM that is reset starts its console anew", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  await runCli(host, ["reset", "a"]);
  host.print("a", "again\r\n");
  await until(() => running.stdout().includes("again"), "output after the reset");
  running.stdin.write("\x1d");
  await running.result;
  assert.is(running.stdout(), "Welcome\r\nlogin: again\r\n");
  assert.match(running.stderr(), /a was started/);
});

test("a reset that no event tells of is noticed by its positions", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  host.vms.get("a")!.output = Buffer.alloc(0);
  host.raw(frameEncode({ ev: "console", vm: "a", at: 0, data: Buffer.from("new") }));
  host.print("a", "new life\r\n");
  await until(() => running.stdout().includes("life"), "output of the new life");
  running.stdin.write("\x1d");
  await running.result;
  assert.is(running.stdout(), "Welcome\r\nlogin: new life\r\n");
});

test("the line is lost for good: leaving is exit code 5, the terminal is restored", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  await host.stop();
  await until(() => running.stderr().includes("trying again"), "another attempt");
  assert.ok(running.raw());
  running.stdin.write("\x1d");
  assert.is((await running.result).code, 5);
  assert.not(running.raw());
  assert.match(running.stderr(), /lost the connection to .*; trying again\]/);
});

test("the line is lost and comes back: output goes on where it was, and typing too", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  host.hangUp();
  await until(() => running.stderr().includes("trying again"), "the loss");
  host.print("a", "meanwhile\r\n");
  await until(() => running.stdout().includes("meanwhile"), "what was printed meanwhile");
  assert.match(running.stderr(), /connected again/);
  running.stdin.write("x");
  await until(() => host.vms.get("a")!.typed === "x", "typing");
  running.stdin.write("\x1d");
  assert.is((await running.result).code, 0);
  assert.is(running.stdout(), "Welcome\r\nlogin: meanwhile\r\n");
});

test("a host that was started again while the line was lost: its console from the beginning", async ({
  host,
}) => {
  const log = join(host.folder, "console.log");
  const running = startCli(host, ["console", "a", "--read-only", "--log", log, "--timestamps"], {
    tty: true,
  });
  await until(() => running.stdout().includes("login: "), "the output");
  host.uptimeMs = 5;
  host.vms.get("a")!.output = Buffer.from("Welcome\r\nlogin: again, and longer than before\r\n");
  host.hangUp();
  await until(() => running.stdout().includes("longer than before"), "the new output");
  await until(() => readFileSync(log, "utf8").includes("longer than before"), "the log");
  running.stdin.write("\x1d");
  assert.is((await running.result).code, 0);
  const time = "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z ";
  assert.match(
    readFileSync(log, "utf8"),
    new RegExp(
      `^${time}Welcome\\r\n${time}login: Welcome\\r\n${time}login: again, and longer than before\\r\n$`,
    ),
  );
  assert.match(
    (await runCli(host, ["console", "a", "--timestamps"])).stderr,
    /--timestamps needs --log FILE/,
  );
});

test("one types, another watches or takes over, and the first is told", async ({ host }) => {
  const first = startCli(host, ["console", "a"], { tty: true });
  await until(() => attached(host), "attachment");
  const refused = await runCli(host, ["console", "a", "--send", "x"]);
  assert.is(refused.code, 4);
  assert.match(
    refused.stderr,
    /its console is in use by \S+@\S+, process \d+\nnext: plinth console a --read-only/,
  );
  assert.is((await startCli(host, ["console", "a"], { tty: true }).result).code, 4);
  assert.is((await runCli(host, ["console", "a", "--expect", "login:"])).code, 0);
  assert.is((await runCli(host, ["console", "a", "--send", "y", "--force"])).code, 0);
  await until(() => first.stderr().includes("you watch from now on"), "the news");
  first.stdin.write("lost");
  first.stdin.write("\x1d");
  assert.is((await first.result).code, 0);
  assert.is(host.vms.get("a")!.typed, "y");
});

test("a stream whose connection ends tries no more", async ({ host }) => {
  const client = await connect(host.path);
  const stream = client.console("a");
  const errors: Error[] = [];
  stream.on("error", (error: Error) => errors.push(error));
  await stream.open();
  await client.close();
  assert.is(errors.length, 1);
  assert.is(client.line.listenerCount("push"), 0);
});

test("the library does the same", async ({ host }) => {
  const client = await connect(host.path);
  const stream = client.console("a");
  let text = "";
  stream.on("data", (data: Uint8Array) => (text += Buffer.from(data).toString()));
  await stream.open();
  await stream.write(Buffer.from("uname\n"));
  await until(() => text.includes("x86_64"), "the answer");
  stream.close();
  await client.close();
});

test.run();
