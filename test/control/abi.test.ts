// Drift: every constant, value and offset of kernel/abi.def as gcc sees it, against what TypeScript sees.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { transformSync } from "esbuild";
import { test } from "uvu";
import * as assert from "uvu/assert";

const CPP = ["-E", "-P", "-undef", "-x", "c", "-Ikernel"];
const WORK = "build/test/abi";

/** A C program that prints what the kernel's header makes of abi.def, one fact a line. */
const PROGRAM = `
#include <stdio.h>
#include "abi.h"
#define ABI_CONST(NAME, value) printf("const %s %llu\\n", #NAME, (unsigned long long)(u32)NAME);
#define ABI_CONST64(NAME, value) printf("wide %s %llu\\n", #NAME, (unsigned long long)NAME);
#define ABI_ENUM(Name, PREFIX) { const char *in = #Name;
#define ABI_VALUE(PREFIX, NAME, value) printf("value %s.%s %llu\\n", in, #NAME, (unsigned long long)PREFIX##_##NAME);
#define ABI_ENUM_END(Name) }
#define ABI_STRUCT(Name, c_name, size) { const char *in = #Name;
#define ABI_FIELD(c_name, type, name, offset) printf("field %s.%s %zu %zu\\n", in, #name, \\
    offsetof(struct c_name, name), sizeof(((struct c_name *)0)->name));
#define ABI_ARRAY(c_name, type, name, offset, n) printf("array %s.%s %zu %zu\\n", in, #name, \\
    offsetof(struct c_name, name), sizeof(((struct c_name *)0)->name[0]));
#define ABI_STRUCT_END(Name, c_name, size) printf("field %s.SIZE %zu 0\\n", in, sizeof(struct c_name)); }
int main(void)
{
#include "abi.def"
    return 0;
}
`;

interface Fact {
  kind: string;
  name: string;
  value: bigint;
  width: number;
}

function factsOfC(): Fact[] {
  mkdirSync(WORK, { recursive: true });
  writeFileSync(`${WORK}/print.c`, PROGRAM);
  execFileSync("gcc", ["-std=gnu11", "-iquote", "kernel", "-o", `${WORK}/print`, `${WORK}/print.c`]);
  return execFileSync(`${WORK}/print`, { encoding: "utf8" })
    .trim()
    .split("\n")
    .map((line) => {
      const [kind, name, value, width] = line.split(" ") as [string, string, string, string | undefined];
      return { kind, name, value: BigInt(value), width: Number(width ?? 0) };
    });
}

/** Expands abi.def again, in the same way as `make abi`. */
function generate(header: string, ...flags: string[]): string {
  return execFileSync("gcc", [...CPP, ...flags, `control/native/${header}`], { encoding: "utf8" });
}

function lines(text: string): string {
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("// Generated"))
    .join("\n");
}

function evaluate(typescript: string): Record<string, unknown> {
  const { code } = transformSync(typescript, { loader: "ts", format: "cjs" });
  const module = { exports: {} };
  new Function("module", "exports", code)(module, module.exports);
  return module.exports;
}

const facts = factsOfC();
const abi = evaluate(readFileSync("control/gen/abi.ts", "utf8")) as Record<
  string,
  Record<string, number> & number
>;
const wide = evaluate(readFileSync("control/gen/abi64-node.ts", "utf8")) as Record<string, bigint>;

test("the generated files are those of the present abi.def", () => {
  const files = [
    ["abi.ts", generate("abi-enums.h")],
    ["abi64.ts", generate("abi-wide.h")],
    ["abi64-node.ts", generate("abi-wide.h", "-DABI_FOR_NODE")],
    ["layout.ts", generate("abi-layout.h")],
  ] as const;
  for (const [name, expected] of files) {
    assert.is(lines(readFileSync(`control/gen/${name}`, "utf8")), lines(expected), name);
  }
});

test("constants, values and offsets are the same in C and in TypeScript", () => {
  for (const { kind, name, value } of facts) {
    const [scope, member] = name.split(".") as [string, string];
    let seen: unknown;
    if (kind === "const") seen = BigInt(abi[scope]!);
    else if (kind === "wide") seen = wide[scope];
    else seen = BigInt(abi[kind === "value" ? scope : `${scope}At`]![member]!);
    assert.is(seen, value, `${kind} ${name}`);
  }
  assert.ok(facts.length > 250);
});

test("TypeScript has nothing that C lacks", () => {
  const known = new Set(
    facts.map(({ kind, name }) => (kind === "field" || kind === "array" ? name.replace(".", "At.") : name)),
  );
  for (const [name, value] of Object.entries(abi)) {
    if (typeof value === "number") assert.ok(known.has(name), name);
    else {
      for (const member of Object.keys(value)) {
        if (!/^\d+$/.test(member)) assert.ok(known.has(`${name}.${member}`), `${name}.${member}`);
      }
    }
  }
});

test("AssemblyScript's accessors have C's offsets and widths", () => {
  const layout = readFileSync("control/gen/layout.ts", "utf8");
  const classes = new Map<string, string>();
  for (const match of layout.matchAll(/class (\w+) \{\n([^]*?)\n\}/g)) classes.set(match[1]!, match[2]!);
  for (const { kind, name, value, width } of facts) {
    if (kind !== "field" && kind !== "array") continue;
    const [scope, member] = name.split(".") as [string, string];
    if (member === "SIZE") continue;
    const type = `u${width * 8}`;
    const at = "changetype<usize>\\(this\\)";
    const patterns =
      kind === "field"
        ? [
            `get ${member}\\(\\): ${type} \\{ return load<${type}>\\(${at}, ${value}\\); \\}`,
            `set ${member}\\(value: ${type}\\) \\{ store<${type}>\\(${at}, value, ${value}\\); \\}`,
          ]
        : [
            `get ${member}\\(\\): Cells<${type}> \\{ return changetype<Cells<${type}>>\\(${at} \\+ ${value}\\); \\}`,
          ];
    for (const pattern of patterns) assert.match(classes.get(scope) ?? "", new RegExp(pattern), name);
  }
});

test.run();
