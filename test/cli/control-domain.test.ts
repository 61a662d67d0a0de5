// The CLI against the shipping control domain, which runs on the model of the kernel.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { connect } from "../../control/cli/client";
import { ModelHost } from "./model-host";
import { runCli, startCli, until } from "./run-cli";

const test = suite<{ host: ModelHost }>("control domain");

test.before.each(async (context) => {
  context.host = new ModelHost();
  await context.host.start();
});
test.after.each(async (context) => context.host.stop());

test("every command that only looks", async ({ host }) => {
  for (const line of ["status", "ls", "show a", "images", "hardware", "logs", "logs a", "events"]) {
    const people = await runCli(host, line.split(" "));
    assert.is(people.code, 0, `${line}: ${people.stderr}`);
    assert.not.match(people.stdout, /undefined|NaN|\[object/);
    if (line !== "logs") assert.is.not(people.stdout, "", line); // the model's kernel logs nothing
    const json = await runCli(host, [...line.split(" "), "--json"]);
    assert.is(json.code, 0, line);
    const isStream = line.startsWith("logs") || line === "events";
    const records = isStream ? json.stdout.split("\n").filter((record) => record !== "") : [json.stdout];
    for (const record of records) JSON.parse(record);
  }
  const doctor = await runCli(host, ["doctor"]);
  assert.match(doctor.stdout, /ok +device-model/);
});

test("the life of a VM, with memory back to the frame", async ({ host }) => {
  const free = async (): Promise<number> =>
    JSON.parse((await runCli(host, ["status", "--json"])).stdout).memory.free;
  const before = await free();
  const create = "create c --memory 64M --kernel linux --initrd initrd --cmdline name=c".split(" ");
  assert.match((await runCli(host, create)).stderr, /c: stopped/);
  assert.is((await runCli(host, create)).code, 4);
  for (const [line, said] of [
    ["start c --wait", /c: running/],
    ["pause c --wait", /c: paused/],
    ["resume c --wait", /c: running/],
    ["reset c --wait", /c: running/],
    ["stop c --wait", /c: stopped/],
    ["start c --wait", /c: running/],
    ["stop c --force --wait", /c: stopped/],
    ["rm c --wait", /c: removed/],
  ] as const) {
    const { code, stderr } = await runCli(host, line.split(" "));
    assert.is(code, 0, `${line}: ${stderr}`);
    assert.match(stderr, said);
  }
  assert.is(await free(), before);
});

test("what the host refuses has its exit code and a next command", async ({ host }) => {
  const refusals: [string, number][] = [
    ["show nobody", 3],
    ["start a", 4],
    ["rm a", 4],
    ["resume a", 4],
    ["create big --memory 2G --kernel linux --start", 1],
    ["create x --memory 64M --kernel nothing", 3],
    ["create X! --memory 64M --kernel linux", 2],
  ];
  for (const [line, code] of refusals) {
    const result = await runCli(host, line.split(" "));
    assert.is(result.code, code, `${line}: ${result.stderr}`);
    assert.match(result.stderr, /next: plinth /, line);
    assert.not.match(result.stderr, /plinth plinth/);
  }
});

test("console: scroll-back, send and expect", async ({ host }) => {
  const { code, stdout, stderr } = await runCli(host, [
    "console",
    "a",
    "--expect",
    "model up: name=a",
    "--send",
    "hello\\r",
    "--expect",
    "^you said: hello$",
  ]);
  assert.is(code, 0, stderr);
  assert.match(stdout, /model up: name=a\n.*you said: hello/s);
});

test("console: a flood larger than what is kept arrives in order, gaps are told", async ({ host }) => {
  const { code, stdout, stderr } = await runCli(host, ["console", "a"], { stdin: "flood\r" });
  assert.is(code, 0, stderr);
  assert.match(stdout, /line 4999 of a flood of lines\r\n$/);
  const numbers = [...stdout.matchAll(/^line (\d+) of a flood of lines\r$/gm)].map((match) =>
    Number(match[1]),
  );
  assert.equal(
    numbers,
    [...new Set(numbers)].sort((a, b) => a - b),
  );
});

test("a trap of the control domain: an open console and the next commands go on", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => running.stdout().includes("model up"), "scroll-back");
  const trap = await runCli(host, ["test", "trap"]);
  assert.is(trap.code, 0, trap.stderr);
  assert.match(trap.stderr, /0 -> 1 restarts/);
  running.stdin.write("still here\r");
  await until(() => running.stdout().includes("you said: still here"), "the answer after the restart");
  running.stdin.write("\x1d");
  assert.is((await running.result).code, 0);
  assert.is(running.stdout().match(/model up/g)?.length, 1);
  assert.match((await runCli(host, ["ls"])).stdout, /a +running/);
});

test("a VM that is reset while somebody watches", async ({ host }) => {
  const running = startCli(host, ["console", "a"], { tty: true });
  await until(() => host.asked.includes("events.watch"), "the console is attached");
  assert.is((await runCli(host, ["reset", "a", "--wait"])).code, 0);
  await until(() => (running.stdout().match(/model up/g)?.length ?? 0) === 2, "the second start");
  running.stdin.write("\x1d");
  await running.result;
});

test("a trap of a device model ends its VM only", async ({ host }) => {
  const { stderr } = await runCli(host, ["test", "trap-model", "a"]);
  assert.match(stderr, /a: (crashed|running)/);
  const rows = JSON.parse((await runCli(host, ["ls", "--json"])).stdout).vms as { state: string }[];
  assert.equal(
    rows.map((row) => row.state),
    ["crashed", "running"],
  );
  assert.match((await runCli(host, ["events"])).stdout, /model-failed/);
});

test("events are followed through a restart", async ({ host }) => {
  const running = startCli(host, ["events", "--follow", "--json"]);
  await until(() => running.stdout().includes("control-started"), "what was before");
  await runCli(host, ["pause", "a"]);
  await until(() => running.stdout().includes("vm-paused"), "the pause");
  await runCli(host, ["test", "trap"]);
  await until(() => running.stdout().includes("control-restarted"), "the restart");
  await runCli(host, ["resume", "a"]);
  await until(() => running.stdout().includes("vm-resumed"), "the event after it");
  await host.stop();
  await running.result;
  const seqs = running
    .stdout()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line).seq as number);
  assert.equal(
    seqs,
    Array.from({ length: seqs.length }, (_, n) => n + 1),
  );
});

test("the shell for people is on the same line", async ({ host }) => {
  const running = startCli(host, ["shell"], { tty: true });
  await until(() => running.stdout().includes("plinth> "), "the prompt");
  running.stdin.write("ls\r");
  await until(() => /a +running/.test(running.stdout()), "the list");
  assert.is((await runCli(host, ["ls"])).code, 0);
  running.stdin.write("\x1d");
  await running.result;
});

test("a second tenant, its limits and its VM", async ({ host }) => {
  for (const [line, code, said] of [
    ["tenant set lab memory=100M vms=2", 0, /^lab: at most 100 MiB, 2 VMs\n$/],
    ["tenant set lab vcpus=4", 0, /^lab: at most 100 MiB, 2 VMs, 4 vCPUs\n$/],
    ["create c --tenant lab --memory 64M --kernel linux", 0, /c: stopped/],
    [
      "create d --tenant lab --memory 64M --kernel linux",
      6,
      /its 2 VMs need 12\d\.\d MiB, it may have 100\.0 MiB/,
    ],
    ["tenant rm lab", 4, /tenant "lab": it has 1 VM: c\nnext: plinth rm c\n/],
    ["tenant set lab memory=1M", 6, /its 1 VM need/],
    [
      "tenant set lab mem=1M",
      2,
      /'mem=1M' is none of memory=SIZE, vms=N, vcpus=N, cpus=SET, exits=N, ipis=N, hypercalls=N, log=N, cache=N%, bandwidth=N%\nnext: plinth help tenant set/,
    ],
    [
      "tenant set lab memory=none vms=none vcpus=none cpus=none exits=none ipis=none hypercalls=none log=none",
      0,
      /^lab: no limits\n$/,
    ],
    ["rm c", 0, /c: removed/],
    ["tenant rm lab", 0, /^lab: removed\n$/],
    ["tenant rm lab", 3, /there is no tenant "lab"\nnext: plinth tenants/],
    ["tenant rm default", 6, /it is always there/],
  ] as const) {
    const { code: got, stderr } = await runCli(host, line.split(" "));
    assert.is(got, code, `${line}: ${stderr}`);
    assert.match(stderr, said, line);
  }
  const json = await runCli(host, ["tenant", "set", "x", "memory=1G", "--json"]);
  assert.equal(JSON.parse(json.stdout), {
    name: "x",
    memory: 2 ** 30,
    used: { memory: 0, vms: 0, vcpus: 0 },
    denials: {},
  });
});

test("one types into a console, another takes over, the first goes on watching", async ({ host }) => {
  const first = startCli(host, ["console", "a"], { tty: true });
  await until(() => host.asked.includes("events.watch"), "attachment");
  first.stdin.write("one\r");
  await until(() => first.stdout().includes("you said: one"), "the answer");
  const refused = await runCli(host, ["console", "a", "--send", "two\\r"]);
  assert.is(refused.code, 4);
  assert.match(
    refused.stderr,
    /its console is in use by .*; --force takes it over, --read-only watches\nnext: plinth console a --read-only/,
  );
  const taken = await runCli(host, [
    "console",
    "a",
    "--force",
    "--send",
    "two\\r",
    "--expect",
    "you said: two",
  ]);
  assert.is(taken.code, 0, taken.stderr);
  await until(() => first.stdout().includes("you said: two"), "what the other typed");
  await until(() => first.stderr().includes("you watch from now on"), "the news");
  first.stdin.write("three\r\x1d");
  assert.is((await first.result).code, 0);
  assert.match(first.stderr(), /a: console taken over from .* by .*/);
  const after = await runCli(host, ["console", "a", "--send", "four\\r", "--expect", "you said: four"]);
  assert.is(after.code, 0, after.stderr);
  assert.not.match((await runCli(host, ["logs", "a"])).stdout, /three/);
});

test("who only watches takes nothing, also when others take over from each other", async ({ host }) => {
  const watcher = startCli(host, ["console", "a", "--read-only"], { tty: true });
  await until(() => host.asked.includes("events.watch"), "attachment");
  const client = await connect(host.path);
  await client.holdConsole("a", { session: 5, who: "one" });
  // At once: the watcher hears of it when nobody types any more.
  await Promise.all([
    client.holdConsole("a", { session: 7, who: "two", force: true }),
    client.detachConsole("a", 7),
  ]);
  await until(() => watcher.stderr().includes("taken over from one by two"), "the news");
  await client.list();
  await client.holdConsole("a", { session: 9, who: "three" });
  await client.close();
  watcher.stdin.write("\x1d");
  assert.is((await watcher.result).code, 0);
});

/** Creates a VM with a port, which the device model opens. */
async function withPort(host: ModelHost, ...lines: string[]): Promise<void> {
  const create = "create p --memory 64M --kernel linux --initrd initrd --port data --start --wait";
  assert.is((await runCli(host, create.split(" "))).code, 0);
  await say(host, ...lines);
}

/** Types lines into its console. */
async function say(host: ModelHost, ...lines: string[]): Promise<void> {
  const client = await connect(host.path);
  for (const line of lines) await client.writeConsole("p", Buffer.from(`${line}\r`));
  await client.close();
}

test("a pipe through a port: more than fits anywhere arrives and comes back", async ({ host }) => {
  await withPort(host, "open");
  const text = Array.from({ length: 700 }, (_, n) => `line ${n}`).join("\n");
  const { code, stdout, stderr } = await runCli(host, ["port", "p", "data"], { stdin: text });
  assert.is(code, 0, stderr);
  assert.is(stdout, text);
  assert.match((await runCli(host, ["show", "p"])).stdout, /ports +data \(open\)/);
});

test("a port that is not there, not open, or not read", async ({ host }) => {
  await withPort(host, "deaf");
  assert.is((await runCli(host, ["port", "q", "data"], { stdin: "" })).code, 3);
  assert.is((await runCli(host, ["port", "p", "log"], { stdin: "" })).code, 3);
  const closed = await runCli(host, ["port", "p", "data"], { stdin: "" });
  assert.is(closed.code, 4);
  assert.match(closed.stderr, /port "data" is not open in the VM\nnext: plinth port p data --wait/);
  const waits = await runCli(host, "port p data --wait --read-only --timeout 1s".split(" "));
  assert.is(waits.code, 5);
  assert.match(waits.stderr, /nothing in the VM has opened port 'data' within 1.0 s/);
  await say(host, "open");
  const unread = await runCli(host, "port p data --timeout 1s".split(" "), { stdin: "lost" });
  assert.is(unread.code, 5);
  assert.match(unread.stderr, /p does not read its port 'data': 4 bytes were not taken/);
});

test("--read-only --wait reads from opening to closing, through a restart of the control domain", async ({
  host,
}) => {
  await withPort(host);
  const reading = startCli(host, "port p data --read-only --wait".split(" "));
  await until(() => host.asked.includes("port.read"), "reading");
  await say(host, "open", "pour");
  await until(() => reading.stdout().length > 0, "bytes");
  assert.is((await runCli(host, ["test", "trap"])).code, 0);
  await say(host, "close");
  const { code, stdout } = await reading.result;
  assert.is(code, 0);
  assert.is(stdout.length, 5000);
});

test("stop says that a VM does not listen to its power button, and what to type", async ({ host }) => {
  await withPort(host, "ignore");
  const { code, stderr } = await runCli(host, ["stop", "p", "--wait"]);
  assert.is(code, 4);
  assert.match(stderr, /p runs on: its power button was pressed, but no driver in it listens to that/);
  assert.match(stderr, /next: plinth stop p --force/);
});

test("a person at a port types, reads, and leaves with Ctrl-]", async ({ host }) => {
  await withPort(host, "open");
  const running = startCli(host, ["port", "p", "data"], { tty: true });
  await until(() => running.raw(), "raw mode");
  running.stdin.write("echo me\r");
  await until(() => running.stdout() === "echo me\r", "the echo");
  running.stdin.write("\x1d");
  assert.is((await running.result).code, 0);
  assert.match(running.stderr(), /port data of p; leave with ~\. at the start of a line, or with Ctrl-\]/);
  assert.match(running.stderr(), /left port data of p/);
});

test.run();
