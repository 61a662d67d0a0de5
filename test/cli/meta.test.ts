// The tool about itself: conditions of ls, colours, the manual page, and completion in a real bash.

import { execFileSync } from "node:child_process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { completionScript } from "../../control/cli/completion";
import { filterVms } from "../../control/cli/filter";
import type { VmRow } from "../../control/cli/results";
import { commandTable } from "../../control/cli/table";
import { FakeHost } from "./fake-host";
import { runCli } from "./run-cli";

const test = suite<{ host: FakeHost }>("the tool itself");

test.before.each(async (context) => {
  context.host = await FakeHost.start();
});
test.after.each(async (context) => context.host.stop());

function row(name: string, more: Partial<VmRow> = {}): VmRow {
  return { name, state: "running", reason: "", memory: 1, vcpus: 1, sinceMs: 1, ...more };
}

const ROWS = [
  row("web-1", { tags: ["web", "blue"], tenant: "red" }),
  row("web-2", { tags: ["web"], state: "paused" }),
  row("db.1", { state: "stopped", protected: true, tenant: "red" }),
];

test("conditions of ls", () => {
  for (const [conditions, names] of [
    ["", "web-1 web-2 db.1"],
    ["tag=web", "web-1 web-2"],
    ["tag=web state=paused", "web-2"],
    ["tag=blue,green", "web-1"],
    ["state=running,stopped", "web-1 db.1"],
    ["tenant=red", "web-1 db.1"],
    ["tenant=default", "web-2"],
    ["name=*1", "web-1 db.1"],
    ["name=db.1", "db.1"],
    ["name=db?1", ""],
    ["protected=yes", "db.1"],
    ["tag=none", ""],
  ] as const) {
    const found = filterVms(ROWS, conditions === "" ? [] : conditions.split(" "));
    assert.is(found.map(({ name }) => name).join(" "), names, conditions);
  }
});

test("ls with conditions, and --one", async ({ host }) => {
  for (const name of ["a", "b", "c"]) host.add(name, name === "c" ? "paused" : "running");
  assert.match((await runCli(host, ["ls", "state=paused"])).stdout, /^NAME .*\nc +paused .*\n$/);
  assert.is((await runCli(host, ["ls", "--one", "state=paused"])).stdout, "c\n");
  const json = await runCli(host, ["ls", "--one", "name=a", "--json"]);
  assert.is(JSON.parse(json.stdout).name, "a");
  const many = await runCli(host, ["ls", "--one", "state=running"]);
  assert.is(many.code, 4);
  assert.match(many.stderr, /that chooses 2 VMs, not one: a, b\nnext: plinth ls/);
  const none = await runCli(host, ["ls", "--one", "name=x"]);
  assert.is(none.code, 3);
  assert.match((await runCli(host, ["ls", "name=x"])).stderr, /none of 3 VMs/);
  const wrong = await runCli(host, ["ls", "stat=running"]);
  assert.is(wrong.code, 2);
  assert.match(wrong.stderr, /'stat=running' is no condition; did you mean 'state='\?\nnext: plinth help ls/);
});

test("colours: on a terminal, by NO_COLOR, by --color", async ({ host }) => {
  host.add("a");
  const coloured = async (argv: string[], env: Record<string, string>): Promise<boolean> =>
    (await runCli(host, ["ls", ...argv], { env })).stdout.includes("\x1b[");
  assert.is(await coloured([], {}), false);
  assert.is(await coloured(["--color", "always"], {}), true);
  assert.is(await coloured(["--color=always"], { NO_COLOR: "1" }), true);
  assert.is(await coloured([], { FORCE_COLOR: "1" }), true);
  assert.is(await coloured([], { FORCE_COLOR: "1", NO_COLOR: "1" }), false);
  assert.is(await coloured(["--color=never"], { FORCE_COLOR: "1" }), false);
  assert.is((await runCli(host, ["ls", "--color", "red"])).code, 2);
});

test("the manual page has every command and option, and nothing that troff takes for its own", async () => {
  const { code, stdout } = await runCli(undefined, ["man"]);
  assert.is(code, 0);
  for (const command of commandTable().filter(({ hidden }) => !hidden)) {
    assert.ok(stdout.includes(`.SS plinth ${command.name.replace(/-/g, "\\-")}`), command.name);
    for (const option of command.options)
      assert.ok(stdout.includes(`\\-\\-${option.name.replace(/-/g, "\\-")}`));
  }
  for (const line of stdout.split("\n"))
    if (/^[.']/.test(line)) assert.match(line, /^\.(TH|SH|SS|TP|IP|EX|EE|B|I|nf|fi)( |$)/);
});

/** What bash offers for the last word of a command line. */
function complete(host: FakeHost, line: string): string[] {
  const words = line.split(" ");
  const script = [
    // The tool is asked in a process of its own; here it has these answers.
    `plinth() { case "$1" in ls) printf '    "name": "%s",\\n' ada bob ;; snapshot) printf '    "name": "%s",\\n' a-1 b-1 ;; *) printf '    "name": "red",\\n' ;; esac; }`,
    completionScript("bash", commandTable()),
    `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")})`,
    `COMP_CWORD=${words.length - 1}`,
    "_plinth",
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join("\n");
  return execFileSync("bash", ["-c", script], { encoding: "utf8", cwd: host.folder }).trim().split("\n");
}

test("completion in bash", ({ host }) => {
  for (const [line, words] of [
    ["plinth ap", "apply"],
    ["plinth che", "check"],
    ["plinth show ", "ada bob"],
    ["plinth set a", "ada"],
    ["plinth set ada pro", "protected="],
    ["plinth ls st", "state="],
    ["plinth create x --tenant ", "red"],
    ["plinth apply --dr", "--dry-run"],
    ["plinth rm ada --prot", "--protected"],
    ["plinth status --color n", "never"],
    ["plinth help exit", "exit-codes"],
    ["plinth tenant ", "set rm"],
    ["plinth tenant rm ", "red"],
    ["plinth tenant set red v", "vms= vcpus="],
    ["plinth audit v", "verify"],
    ["plinth snapshot v", "verify"],
    ["plinth snapshot create ", "ada bob"],
    ["plinth snapshot restore b-", "b-1"],
    ["plinth snapshot export b-1 --ba", "--base"],
    ["plinth image u", "usb"],
    ["plinth rig d", "down"],
    ["plinth top t", "tenants"],
    ["plinth top --on", "--once"],
    ["plinth console ada --re", "--read-only"],
    ["plinth console --timestamps b", "bob"],
    ["plinth --progress json sho", "show"],
    ["plinth apply --progress j", "json"],
    ["plinth events --fo", "--follow"],
  ] as const)
    assert.is(complete(host, line).join(" "), words, line);
});

test("completion for fish and zsh: two words, tenants, no rests of templates", () => {
  const fish = completionScript("fish", commandTable());
  assert.match(
    fish,
    /-n '__fish_seen_subcommand_from tenant; and not __fish_seen_subcommand_from set rm' -a set -d /,
  );
  assert.match(
    fish,
    /-n '__fish_seen_subcommand_from tenant; and __fish_seen_subcommand_from rm' -a '\(plinth tenants /,
  );
  assert.match(fish, /-l progress -x -a 'auto json never' /);
  assert.match(fish, /__fish_use_subcommand -a tenant -d 'set, rm \(tenant\)'/);
  const zsh = completionScript("zsh", commandTable());
  assert.match(zsh, /^#compdef plinth\n/);
  for (const script of [fish, zsh]) assert.not.match(script, /undefined|\[object/);
});

test.run();
