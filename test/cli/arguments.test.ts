// The command line: what is understood, what is refused and how.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { findCommand, parseArguments, type Arguments } from "../../control/cli/arguments";
import { GLOBALS } from "../../control/cli/command";
import { nearest } from "../../control/cli/nearest";
import { commandTable } from "../../control/cli/table";
import { parseAddress, resolveAddress } from "../../control/cli/transport";
import { formatSize, formatTime, parseEscapes, parseSize, parseTime } from "../../control/cli/values";
import { runCli } from "./run-cli";

function parse(...argv: string[]): { name: string; args: Arguments } {
  const { command, rest } = findCommand(argv, commandTable(), GLOBALS);
  return { name: command!.name, args: parseArguments(rest, command!, GLOBALS) };
}

test("global options may stand before and after the command", () => {
  for (const argv of [
    ["--timeout", "5s", "--json", "show", "a"],
    ["show", "a", "--json", "--timeout=5s"],
    ["show", "--json", "--timeout", "5s", "a"],
  ]) {
    const { name, args } = parse(...argv);
    assert.is(name, "show");
    assert.equal(args.operands, ["a"]);
    assert.ok(args.has("json"));
    assert.is(args.value("timeout"), "5s");
  }
});

test("two-word commands, short options and optional values", () => {
  assert.is(parse("rig", "up", "--memory", "1G").args.value("memory"), "1G");
  assert.is(parse("create", "-f", "x.json").args.value("file"), "x.json");
  assert.is(parse("start", "a", "--wait").args.value("wait"), "");
  assert.is(parse("start", "--wait=paused", "a").args.value("wait"), "paused");
  assert.equal(parse("start", "--wait", "a").args.operands, ["a"]);
});

test("--send and --expect keep their order", () => {
  const { args } = parse("console", "a", "--expect", "x", "--send", "-y\\n", "--expect", "z");
  assert.equal(
    args.given.map(({ name, value }) => name + value),
    ["expectx", "send-y\\n", "expectz"],
  );
});

const MISTAKES: [string, RegExp, RegExp][] = [
  ["strat a", /unknown command 'strat'/, /next: plinth start/],
  ["lss", /unknown command 'lss'/, /next: plinth ls/],
  ["frobnicate", /unknown command 'frobnicate'/, /next: plinth help/],
  ["ls --jsn", /no option '--jsn'; did you mean '--json'/, /next: plinth help ls/],
  ["ls -x", /no option '-x'/, /next: plinth help ls/],
  ["ls --json=yes", /'--json' takes no value/, /help ls/],
  ["show", /'plinth show' needs NAME/, /help show/],
  ["show a b", /does not know what to do with 'b'/, /help show/],
  ["start", /'plinth start' needs NAME/, /help start/],
  ["create --memory", /'--memory' needs a value/, /help create/],
  ["create a --memory --start", /'--memory' needs a value/, /help create/],
  ["create a --memory 1G --memory 2G", /'--memory' is given 2 times/, /help create/],
  ["create a --kernel k", /'memory' is missing/, /help create/],
  ["create a --memory 1Q --kernel k", /'1Q' is not a size/, /next/],
  [
    "create a --memory 1G --kernel k --restart sometimes",
    /'sometimes' is none of never, on-failure, always/,
    /next/,
  ],
  ["create", /needs NAME or --file/, /help create/],
  ["rig", /needs one of: up, down, status/, /next: plinth rig up/],
  ["rig stats", /unknown command 'rig stats'/, /next: plinth rig status/],
  ["start a --wait=runing", /'runing' is none of/, /next/],
  ["ls --timeout soon", /'soon' is not a time/, /next/],
  ["ls --socket a --tcp b:1", /only one of --socket, --tcp and --device/, /next/],
  ["ls --tcp nowhere", /'nowhere' is not HOST:PORT/, /next/],
  ["console a --send \\q", /unknown escape '\\q'/, /next/],
  ["console a --expect [", /Invalid regular expression/, /next/],
  ["events --since x", /'x' is not a number/, /next/],
  ["completion tcsh", /no completion for 'tcsh'/, /help completion/],
  ["help nothing", /no help on 'nothing'/, /next: plinth help/],
];

for (const [line, message, next] of MISTAKES) {
  test(`usage error: plinth ${line}`, async () => {
    const result = await runCli(undefined, line.split(" "), {
      env: { PLINTH_CONNECT: "/nonexistent/plinth.sock" },
    });
    assert.is(result.code, 2, result.stderr);
    assert.is(result.stdout, "");
    assert.match(result.stderr, message);
    assert.match(result.stderr, next);
  });
}

test("no command prints the overview and is a usage error; --help is none", async () => {
  const nothing = await runCli(undefined, []);
  assert.is(nothing.code, 2);
  assert.match(nothing.stderr, /usage:/);
  const asked = await runCli(undefined, ["--help"]);
  assert.is(asked.code, 0);
  assert.match(asked.stdout, /usage:/);
});

test("every command has help and a summary, hidden ones are not listed", async () => {
  for (const command of commandTable()) {
    const { code, stdout } = await runCli(undefined, ["help", ...command.name.split(" ")]);
    assert.is(code, 0);
    assert.ok(stdout.includes(`plinth ${command.name}`), command.name);
    assert.is((await runCli(undefined, [...command.name.split(" "), "--help"])).code, 0);
  }
  assert.not.match((await runCli(undefined, ["help"])).stdout, /trap/);
  assert.match((await runCli(undefined, ["help", "exit-codes"])).stdout, /cannot be reached/);
  assert.match((await runCli(undefined, ["help", "connect"])).stdout, /PLINTH_CONNECT/);
  assert.match((await runCli(undefined, ["help", "rig"])).stdout, /rig down/);
});

test("version, also as people type it", async () => {
  for (const argv of [["version"], ["--version"], ["-V"]]) {
    assert.match((await runCli(undefined, argv)).stdout, /^plinth .*protocol 1\n$/);
  }
  assert.is(JSON.parse((await runCli(undefined, ["version", "--json"])).stdout).protocol, 1);
});

test("an error with --json is one line of JSON on stderr", async () => {
  const { code, stderr, stdout } = await runCli(undefined, ["show", "--json"]);
  assert.is(code, 2);
  assert.is(stdout, "");
  assert.equal(JSON.parse(stderr), {
    error: { code: 2, message: "'plinth show' needs NAME", object: "", next: "plinth help show" },
  });
});

test("completion scripts name every listed command", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { stdout } = await runCli(undefined, ["completion", shell]);
    for (const command of commandTable()) {
      if (!command.hidden)
        assert.ok(stdout.includes(command.name.split(" ").pop()!), `${shell}: ${command.name}`);
    }
  }
});

test("the nearest word is near", () => {
  assert.is(nearest("pasue", ["pause", "resume"]), "pause");
  assert.is(nearest("res", ["reset", "resume"]), "reset");
  assert.is(nearest("xyz", ["pause", "resume"]), "");
});

test("sizes and times", () => {
  assert.is(parseSize("128M", ""), 128 << 20);
  assert.is(parseSize("1GiB", ""), 2 ** 30);
  assert.is(parseSize("640k", ""), 640 << 10);
  assert.is(parseSize("4096", ""), 4096);
  assert.throws(() => parseSize("-1", "memory"), /not a size/);
  assert.is(parseTime("1.5s", ""), 1500);
  assert.is(parseTime("500ms", ""), 500);
  assert.is(parseTime("2", ""), 2000);
  assert.is(formatSize(128 << 20), "128 MiB");
  assert.is(formatSize(1536 << 20), "1.50 GiB");
  assert.is(formatTime(185_000), "3 min 05 s");
});

test("escapes become bytes", () => {
  assert.equal(
    Buffer.from(parseEscapes("a\\n\\x1b\\\\n\\té", "")).toString("latin1"),
    Buffer.from("a\n\x1b\\n\té").toString("latin1"),
  );
  assert.throws(() => parseEscapes("x\\", "--send"), /unknown escape/);
});

test("addresses: options, then PLINTH_CONNECT, then the default", () => {
  assert.equal(resolveAddress({ tcp: "h:1", env: { PLINTH_CONNECT: "x" } }), {
    kind: "tcp",
    host: "h",
    port: 1,
  });
  assert.equal(resolveAddress({ env: { PLINTH_CONNECT: "tcp:[::1]:70" } }), {
    kind: "tcp",
    host: "::1",
    port: 70,
  });
  assert.equal(resolveAddress({ env: {} }), { kind: "socket", path: "build/run/plinth.sock" });
  assert.equal(parseAddress("/dev/ttyS0"), { kind: "device", path: "/dev/ttyS0" });
  assert.equal(parseAddress("unix:a/b"), { kind: "socket", path: "a/b" });
  assert.throws(() => parseAddress("tcp:h:99999"), /not HOST:PORT/);
});

test.run();
