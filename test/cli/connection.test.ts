// What can go wrong between the CLI and the host, and what the CLI makes of it.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { createConnection, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { connect } from "../../control/cli/client";
import { FrameReader, frameEncode } from "../../control/protocol/node/frame";
import { PUSH_READY } from "../../control/protocol/schema";
import { FakeHost } from "./fake-host";
import { Random } from "./random";
import { runCli, startCli, until } from "./run-cli";

const test = suite<{ host: FakeHost }>("connection");

test.before.each(async (context) => {
  context.host = await FakeHost.start();
});
test.after.each(async (context) => context.host.stop());

test("no socket, nobody behind it, no device", async ({ host }) => {
  const none = await runCli(undefined, ["ls", "--socket", "/nonexistent/plinth.sock"]);
  assert.is(none.code, 5);
  assert.match(none.stderr, /no such socket\nnext: plinth rig up/);
  const refused = await runCli(undefined, ["ls", "--tcp", "127.0.0.1:1"]);
  assert.is(refused.code, 5);
  assert.match(refused.stderr, /nothing listens there/);
  assert.is((await runCli(undefined, ["ls", "--device", "/nonexistent/tty"])).code, 5);
  const noTty = await runCli(undefined, ["ls", "--device", host.folder]);
  assert.is(noTty.code, 5);
});

test("a host that is silent is only asked whether it is there, then exit code 5 names the step", async ({
  host,
}) => {
  host.faults.mute = true;
  const { code, stderr } = await runCli(host, ["ls", "--timeout", "3s"]);
  assert.is(code, 5);
  assert.match(
    stderr,
    /no answer to 'hello' from .* within 3\.0 s; the line is silent\nnext: plinth rig status/,
  );
  assert.ok(host.probes > 2, String(host.probes));
  // A boot loader would take anything else for keys.
  assert.equal([host.requests, host.received], [[], []]);
});

test("a host that only talks text is quoted", async ({ host }) => {
  host.faults.mute = true;
  const running = runCli(host, ["ls", "--timeout", "500ms"]);
  await until(() => host.probes > 0, "the first question");
  host.raw(Buffer.from("Booting...\r\nplinth: no VT-x on this CPU\r\n"));
  assert.match(
    (await running).stderr,
    /last text on the line is 'plinth: no VT-x on this CPU'\nnext: plinth shell/,
  );
});

test("a lost hello is sent again", async ({ host }) => {
  host.faults.drop.hello = 1;
  assert.is((await runCli(host, ["ls"])).code, 0);
});

test("a host that comes up while we wait is greeted at its prompt", async ({ host }) => {
  host.faults.mute = true;
  const running = runCli(host, ["ls"]);
  await until(() => host.probes > 0, "the first question");
  host.faults.mute = false;
  const before = Date.now();
  host.raw(Buffer.from("control: up\r\nplin"));
  host.raw(Buffer.from("th> [vm a started]\r\n"));
  assert.is((await running).code, 0);
  assert.ok(Date.now() - before < 1500);
});

test("another protocol version: exit code 7 says which", async ({ host }) => {
  host.faults.version = 2;
  const { code, stderr } = await runCli(host, ["ls"]);
  assert.is(code, 7);
  assert.is(
    stderr,
    "plinth: this plinth speaks protocol version 1, the host Plinth 0.0-fake (build test) speaks version 2\n" +
      "next: use the plinth that was built with the host's image\n",
  );
});

test("noise, boot text and single bytes do no harm", async ({ host }) => {
  host.add("a");
  host.faults.split = true;
  for (const noise of ["[    0.000000] Linux version\r\n", "\0", "\0\x05abc", "plinth> \0\0"]) {
    host.faults.noise = Buffer.from(noise, "latin1");
    const { code, stderr } = await runCli(host, ["ls"]);
    assert.is(code, 0, stderr);
  }
});

test("a lost answer to a question is asked for again", async ({ host }) => {
  host.faults.drop.images = 1;
  assert.is((await runCli(host, ["images"])).code, 0);
});

test("a change that was not heard is asked for again, with the same id", async ({ host }) => {
  host.add("a", "stopped");
  host.faults.drop.start = 1;
  const { code, stderr } = await runCli(host, ["start", "a"]);
  assert.is(code, 0, stderr);
  const starts = host.requests.filter((request) => request.op === "start");
  assert.equal(
    starts.map(({ id, epoch }) => [id, epoch]),
    [
      [starts[0]!.id, undefined],
      [starts[0]!.id, 0],
    ],
  );
});

test("a change whose answer was lost is answered again, not done again", async ({ host }) => {
  host.faults.lose.create = 1;
  const argv = ["create", "new", "--memory", "64M", "--kernel", "linux"];
  const { code, stderr } = await runCli(host, argv);
  assert.is(code, 0, stderr);
  assert.is(host.requests.filter((request) => request.op === "create").length, 2);
});

test("a host that takes its time is asked once", async ({ host }) => {
  host.faults.takesMs.create = 2500;
  const argv = ["create", "new", "--memory", "64M", "--kernel", "linux"];
  const { code, stderr } = await runCli(host, argv);
  assert.is(code, 0, stderr);
  assert.is(host.requests.filter((request) => request.op === "create").length, 1);
});

test("a host that stops in the middle of an answer", async ({ host }) => {
  const client = await connect({ kind: "socket", path: host.path });
  host.faults.stallMs = 2500;
  const created = client.create({ name: "new", memory: 64 << 20, kernel: "linux" });
  await until(() => host.requests.some(({ op }) => op === "create"), "the request");
  host.faults.stallMs = 0;
  assert.is((await created).name, "new");
  assert.is(client.line.badFrames, 0);
  await client.close();
});

test("a connection that ends in mid-command", async ({ host }) => {
  host.faults.hangUpOn = "ls";
  const { code, stderr } = await runCli(host, ["ls"]);
  assert.is(code, 5);
  assert.match(stderr, /lost the connection to .* while waiting for the answer to 'ls'/);
});

test("two clients share the line and each gets its own answers", async ({ host }) => {
  host.add("a");
  const clients = await Promise.all([
    connect({ kind: "socket", path: host.path }),
    connect({ kind: "socket", path: host.path }),
  ]);
  const answers = await Promise.all(
    clients.flatMap((client) => [client.list(), client.images(), client.show("a")]),
  );
  assert.is(answers.length, 6);
  await Promise.all(clients.map((client) => client.close()));
});

test("garbage from a fixed seed before every answer", async ({ host }) => {
  host.add("a");
  const random = new Random(99);
  const client = await connect({ kind: "socket", path: host.path });
  for (let n = 0; n < 200; n++) {
    // Ends with two zeros, so that no half frame of noise takes the answer's first zero.
    host.faults.noise = Buffer.concat([random.bytes(random.below(60)), Uint8Array.of(0, 0)]);
    assert.is((await client.list()).length, 1);
  }
  await client.close();
});

test("TCP, by option and by PLINTH_CONNECT", async ({ host }) => {
  const server = createServer((socket) => {
    const inner = createConnection(host.path);
    socket.pipe(inner).pipe(socket);
    socket.on("error", () => inner.destroy());
    inner.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = (server.address() as AddressInfo).port;
  assert.is((await runCli(undefined, ["ls", "--tcp", `127.0.0.1:${port}`])).code, 0);
  assert.is((await runCli(undefined, ["ls"], { env: { PLINTH_CONNECT: `tcp:localhost:${port}` } })).code, 0);
  server.close();
});

test("a pty in place of a serial line", async () => {
  const folder = mkdtempSync(join(tmpdir(), "plinth-"));
  const name = join(folder, "tty");
  // script(1) makes the pty: its own standard streams are the far end of the line.
  const far = spawn("script", ["-qfec", `stty raw -echo; tty > ${name}; exec sleep 60`, "/dev/null"]);
  const reader = new FrameReader({
    message: (message) => {
      const result = message.op === "hello" ? { version: 1, product: "Plinth", build: "pty" } : { vms: [] };
      far.stdin.write(frameEncode({ id: message.id!, ok: true, result }));
    },
    text: () => undefined,
    probe: () => void far.stdin.write(frameEncode({ ev: PUSH_READY })),
  });
  far.stdout.on("data", (bytes: Buffer) => reader.feed(bytes));
  const path = (): string => {
    try {
      return readFileSync(name, "utf8").trim();
    } catch {
      return "";
    }
  };
  await until(() => path() !== "", "the pty");
  const { code, stderr, stdout } = await runCli(undefined, [
    "ls",
    "--json",
    "--device",
    path(),
    "--timeout",
    "10s",
  ]);
  far.kill();
  assert.is(code, 0, stderr);
  assert.equal(JSON.parse(stdout), { vms: [] });
});

test("the bundle runs as a program of its own", async ({ host }) => {
  host.add("a", "running", "login: ");
  const bundle = join(host.folder, "plinth.cjs");
  const esbuild = join("node_modules", ".bin", "esbuild");
  execFileSync(esbuild, [
    "control/cli/main.ts",
    "--bundle",
    "--platform=node",
    "--target=node18",
    "--format=cjs",
    "--log-level=error",
    `--outfile=${bundle}`,
  ]);
  const program = (argv: string[], line: string): Promise<{ code: number | null; output: string }> =>
    new Promise((resolve) => {
      const command = `node ${bundle} ${argv.join(" ")}`;
      // A pty of its own, so that raw mode and the escapes are the real ones.
      const child = spawn("script", ["-qfec", command, "/dev/null"], {
        env: { ...process.env, PLINTH_CONNECT: host.path },
      });
      let output = "";
      child.stdout.on("data", (bytes: Buffer) => {
        output += bytes.toString();
        if (!output.includes("login: ")) return;
        child.stdin.write(line);
        line = "";
      });
      child.on("exit", (code) => resolve({ code, output }));
    });
  const listed = await program(["ls"], "");
  assert.is(listed.code, 0, listed.output);
  assert.match(listed.output, /running/);
  const missing = await program(["show", "b"], "");
  assert.is(missing.code, 3);
  const left = await program(["console", "a"], "root\r~.");
  assert.is(left.code, 0, left.output);
  assert.match(left.output, /leave with ~\./);
  assert.match(left.output, /left the console of a/);
  assert.match(host.vms.get("a")!.typed, /^root\r/);
  assert.is((await program(["console", "a"], "\x1d")).code, 0);
});

test("a following command survives the host's silence between", async ({ host }) => {
  const following = startCli(host, ["events", "--follow"]);
  await until(
    () => host.requests.filter((request) => request.op === "events.watch").length > 1,
    "a renewed watch",
  );
  await host.stop();
  await following.result;
});

test("a person's following command comes back with the line, and misses nothing", async ({ host }) => {
  const following = startCli(host, ["events", "--follow"], { tty: true });
  await until(() => host.requests.some((request) => request.op === "events.watch"), "a watch");
  host.hangUp();
  await until(() => following.stderr().includes("trying again"), "the loss");
  host.event("vm-paused", "a", "while nobody heard");
  await until(() => following.stdout().includes("while nobody heard"), "the event");
  await host.stop();
  following.stdin.end();
  assert.is((await following.result).code, 5);
});

test.run();
