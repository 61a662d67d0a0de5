// Specification files in JSON, YAML and TOML; their mistakes; profiles; checks without a host.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readHostSpec } from "../../control/cli/spec";
import { HOST_SCHEMA } from "../../control/cli/spec-schema";
import { runCli } from "./run-cli";

const test = suite<{ folder: string }>("specification files");

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "plinth-"));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

const YAML = `# a host
version: 1
host: { name: h }
tenants:
  - { name: red, memory: 1G, vms: 2 }
profiles:
  small: { memory: 64M, kernel: linux, tags: [small] }
vms:
  - name: a
    tenant: red
    profile: small
  - name: b
    profile: small
    memory: 32M
    tags: []
`;
const TOML = `# a host
version = 1
[host]
name = "h"
[[tenants]]
name = "red"
memory = "1G"
vms = 2
[profiles.small]
memory = "64M"
kernel = "linux"
tags = ["small"]
[[vms]]
name = "a"
tenant = "red"
profile = "small"
[[vms]]
name = "b"
profile = "small"
memory = "32M"
tags = []
`;
const JSON_TEXT = JSON.stringify({
  $schema: "plinth.schema.json",
  version: 1,
  host: { name: "h" },
  tenants: [{ name: "red", memory: "1G", vms: 2 }],
  profiles: { small: { memory: "64M", kernel: "linux", tags: ["small"] } },
  vms: [
    { name: "a", tenant: "red", profile: "small" },
    { name: "b", profile: "small", memory: "32M", tags: [] },
  ],
});
const MEANT = {
  version: 1,
  host: { name: "h" },
  tenants: [{ name: "red", memory: 2 ** 30, vms: 2 }],
  vms: [
    { start: true, name: "a", tenant: "red", memory: 2 ** 26, kernel: "linux", tags: ["small"] },
    { start: true, name: "b", memory: 2 ** 25, kernel: "linux", tags: [] },
  ],
};

test("the three forms mean the same, by the name's end or by their looks", ({ folder }) => {
  for (const [name, text] of [
    ["h.yaml", YAML],
    ["h.yml", YAML],
    ["h.toml", TOML],
    ["h.json", JSON_TEXT],
    ["yaml", YAML],
    ["toml", TOML],
    ["json", JSON_TEXT],
  ] as const) {
    const file = join(folder, name);
    writeFileSync(file, text);
    assert.equal(readHostSpec(file), MEANT, name);
  }
});

test("check takes it, and says so", async ({ folder }) => {
  const file = join(folder, "h.yaml");
  writeFileSync(file, YAML);
  const { code, stderr } = await runCli(undefined, ["check", "-f", file]);
  assert.is(code, 0, stderr);
  assert.match(stderr, /h\.yaml: 2 VMs, no mistake found; next: plinth diff -f /);
  const json = await runCli(undefined, ["check", "-f", file, "--json"]);
  assert.equal(JSON.parse(json.stdout), { file, vms: 2, tenants: 1 });
});

test("mistakes: where, what, and what to do next", async ({ folder }) => {
  const cases: [string, string, number, RegExp][] = [
    ["x.yaml", "version: 1\nvms: [\n", 2, /x\.yaml:3:1: /],
    ["x.yaml", "version: 1\nversion: 1\nvms: []\n", 2, /x\.yaml:2:1: Map keys must be unique/],
    ["x.toml", "version = 1\nvms = [\n", 2, /x\.toml:\d:\d: /],
    ["x.json", '{"version": 1,', 2, /x\.json: .*JSON/],
    ["x.yaml", "just text\n", 2, /it is no specification: an object with fields/],
    ["x.yaml", "version: 1\n", 2, /a host specification has 'version', 'host' and 'vms'/],
    ["x.yaml", "version: 1\nvms:\n", 2, /'vms' is no list/],
    ["x.yaml", "version: 1\nvms: [5]\n", 2, /'vms\[0\]' is no object with fields/],
    ["x.yaml", YAML.replace("1G", "1Q"), 2, /tenants\[0\]\.memory '1Q' is not a size from 1/],
    [
      "x.yaml",
      YAML.replace("profile: small", "profile: smal"),
      2,
      /VM 'a': there is no profile 'smal'; did you mean 'small'/,
    ],
    ["x.yaml", YAML.replace("kernel: linux, ", ""), 2, /VM 'a': 'kernel' is missing/],
    [
      "x.yaml",
      YAML.replace("memory: 32M", "memroy: 32M"),
      2,
      /VM 'b': unknown field 'memroy'; did you mean 'memory'/,
    ],
    [
      "x.yaml",
      YAML.replace("memory: 32M", "memory: 1M"),
      2,
      /VM 'b': memory '1048576' is not a size from 2M/,
    ],
    ["x.yaml", YAML.replace("tags: []", "firmware: f"), 2, /not both/],
    ["x.yaml", YAML.replace("name: b", "name: a"), 2, /VM "a": there are two of that name/],
    ["x.yaml", YAML.replace("tenant: red", "tenant: rad"), 3, /VM "a": there is no tenant "rad"/],
    ["x.yaml", YAML.replace("1G", "32M"), 6, /tenant "red": its 1 VM need 64\.0 MiB, it may have 32\.0 MiB/],
    ["x.toml", `${TOML}start = 1979-05-27\n`, 2, /VM 'b': 'start' is neither true nor false/],
  ];
  for (const [name, text, code, message] of cases) {
    const file = join(folder, name);
    writeFileSync(file, text);
    const result = await runCli(undefined, ["check", "-f", file]);
    assert.match(result.stderr, message);
    assert.is(result.code, code, result.stderr);
    assert.match(result.stderr, /\nnext: plinth /);
  }
  assert.is((await runCli(undefined, ["check", "-f", join(folder, "none.yaml")])).code, 3);
  assert.match((await runCli(undefined, ["check"])).stderr, /'plinth check' needs -f FILE/);
});

test("a file that repeats itself without end is refused", async ({ folder }) => {
  const file = join(folder, "bomb.yaml");
  const lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"];
  for (let n = 1; n < 9; n++)
    lines.push(
      `a${n}: &a${n} [${Array(9)
        .fill(`*a${n - 1}`)
        .join(", ")}]`,
    );
  writeFileSync(file, lines.join("\n"));
  const { code, stderr } = await runCli(undefined, ["check", "-f", file]);
  assert.is(code, 2);
  assert.match(stderr, /Excessive alias count/);
});

test("schema prints what the checks use", async () => {
  const { code, stdout } = await runCli(undefined, ["schema"]);
  assert.is(code, 0);
  assert.equal(JSON.parse(stdout), JSON.parse(JSON.stringify(HOST_SCHEMA)));
});

test.run();
