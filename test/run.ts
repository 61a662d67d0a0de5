// Runs every check and test in order, prints one line for each, and closes with the totals.
// usage: test [WHAT]    WHAT is a group (static, unit, control, cli, protocol, boot) or part of a name
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { chooseRig } from "../boot/rigs/choose";

const OUT = join("build", "test");
/** Lines of a failure's output that are shown from its start, and from its end. */
const SHOWN = 60;
const FILE_TIMEOUT_MS = 8 * 60_000;

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** One thing to run: it reports what it counted, and what to show when something failed. */
interface Job {
  group: string;
  name: string;
  run: () => Totals & { output: string };
}

const PASS: Totals = { passed: 1, failed: 0, skipped: 0 };
const FAIL: Totals = { passed: 0, failed: 1, skipped: 0 };
const SKIP: Totals = { passed: 0, failed: 0, skipped: 1 };

function run(program: string, args: string[], env: Record<string, string> = {}): SpawnSyncReturns<string> {
  return spawnSync(program, args, {
    encoding: "utf8",
    env: { ...process.env, ...env },
    timeout: FILE_TIMEOUT_MS,
    maxBuffer: 64 << 20,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

function textOf(result: SpawnSyncReturns<string>): string {
  const cause = result.error === undefined ? "" : `${result.error.message}\n`;
  const signal = result.signal === null ? "" : `ended by ${result.signal}\n`;
  return `${result.stdout ?? ""}${result.stderr ?? ""}${cause}${signal}`;
}

function asOneTest(result: SpawnSyncReturns<string>): Totals & { output: string } {
  return { ...(result.status === 0 ? PASS : FAIL), output: textOf(result) };
}

function findFiles(folder: string, ending: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .flatMap((name) => {
      const path = join(folder, name);
      if (statSync(path).isDirectory()) return findFiles(path, ending);
      return name.endsWith(ending) ? [path] : [];
    });
}

/** The type check, and that what is in control/gen is what kernel/abi.def says. */
function staticJobs(): Job[] {
  const tsc = join("node_modules", ".bin", "tsc");
  return [
    { group: "static", name: "types", run: () => asOneTest(run(tsc, ["--noEmit", "--pretty", "false"])) },
    {
      group: "static",
      name: "abi drift",
      run: () => asOneTest(run("make", ["--no-print-directory", "-q", "abi"])),
    },
    { group: "static", name: "abi drift, C", run: checkAbiHeader },
  ];
}

/** Every size and offset of abi.def is asserted when C includes its expansion. */
function checkAbiHeader(): Totals & { output: string } {
  const flags = [
    "-std=gnu11",
    "-Wall",
    "-Werror",
    "-fsyntax-only",
    "-iquote",
    "kernel",
    "-x",
    "c",
    "-include",
    "kernel/abi.h",
  ];
  return asOneTest(run("gcc", [...flags, "/dev/null"]));
}

/** Kernel logic on the host: `// with: kernel/frame.c ...` in the first line names what is tested. */
function unitJobs(): Job[] {
  return findFiles(join("test", "unit"), ".c").flatMap((source) => {
    const first = readFileSync(source, "utf8").split("\n", 1)[0]!;
    const match = /with:\s*([^*]*)/.exec(first);
    if (match === null) return [];
    const sources = match[1]!
      .trim()
      .split(/\s+/)
      .filter((word) => word !== "");
    return [{ group: "unit", name: source, run: () => runUnit(source, sources) }];
  });
}

function runUnit(source: string, sources: string[]): Totals & { output: string } {
  const program = join(OUT, source.replace(/[/.]/g, "-"));
  const flags = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"];
  // Quote paths only: kernel/features.h must not stand in for the C library's own.
  flags.push("-iquote", "kernel", "-iquote", "boot");
  flags.push(
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-DPLINTH_HOST_TEST",
  );
  const build = run("gcc", [...flags, source, ...sources, "-o", program]);
  if (build.status !== 0) return { ...FAIL, output: textOf(build) };
  return asOneTest(run(program, []));
}

/** uvu files: bundled, run alone, counted from uvu's own totals; no totals or none at all is a failure. */
function uvuJobs(group: string, folder: string): Job[] {
  return findFiles(folder, ".test.ts").map((source) => ({ group, name: source, run: () => runUvu(source) }));
}

function runUvu(source: string): Totals & { output: string } {
  const bundle = join(OUT, source.replace(/\.ts$/, ".cjs"));
  const esbuild = join("node_modules", ".bin", "esbuild");
  const flags = ["--bundle", "--platform=node", "--target=node18", "--format=cjs", "--packages=external"];
  flags.push("--log-level=warning", "--sourcemap=inline", `--outfile=${bundle}`);
  const build = run(esbuild, [source, ...flags]);
  if (build.status !== 0) return { ...FAIL, output: textOf(build) };
  const result = run(process.execPath, ["--enable-source-maps", bundle], { FORCE_COLOR: "0", NO_COLOR: "1" });
  const output = textOf(result);
  const sum = (label: string): number =>
    [...output.matchAll(new RegExp(`^\\s*${label}:\\s+(\\d+)`, "gm"))].reduce(
      (total, match) => total + Number(match[1]),
      0,
    );
  const total = sum("Total");
  const skipped = sum("Skipped");
  const passed = sum("Passed");
  if (total + skipped === 0) return { ...FAIL, output: `${output}\n${source} ran no test` };
  const failed = Math.max(total - passed, result.status === 0 ? 0 : 1);
  return { passed, failed, skipped, output };
}

/** Whole-system tests need a rig with VT-x. Where CI runs, a missing rig is a failure. */
function bootJobs(): Job[] {
  const choice = chooseRig("auto");
  const jobs = uvuJobs("boot", join("test", "boot"));
  if (choice.kind !== null) return jobs;
  const outcome = process.env.CI === "true" ? FAIL : SKIP;
  return jobs.map((job) => ({ ...job, run: () => ({ ...outcome, output: choice.reason }) }));
}

/** At most `SHOWN` lines of each end of a text. */
function shorten(text: string): string {
  const lines = text.trimEnd().split("\n");
  if (lines.length <= 2 * SHOWN) return lines.join("\n");
  const left = lines.length - 2 * SHOWN;
  return [...lines.slice(0, SHOWN), `... ${left} lines left out ...`, ...lines.slice(-SHOWN)].join("\n");
}

function main(): void {
  const only = process.argv[2] ?? "";
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  const all = [
    ...staticJobs(),
    ...unitJobs(),
    ...uvuJobs("protocol", join("test", "protocol")),
    ...uvuJobs("control", join("test", "control")),
    ...uvuJobs("cli", join("test", "cli")),
    ...uvuJobs("rigs", join("test", "rigs")),
    ...bootJobs(),
  ];
  const groups = new Set(all.map((job) => job.group));
  const jobs = all.filter(
    (job) => only === "" || (groups.has(only) ? job.group === only : job.name.includes(only)),
  );
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  for (const job of jobs) {
    const began = Date.now();
    const result = job.run();
    const seconds = ((Date.now() - began) / 1000).toFixed(1);
    const word = result.failed > 0 ? "FAIL" : result.passed > 0 ? "ok  " : "skip";
    const count = result.passed + result.failed + result.skipped;
    console.log(`${word} ${job.name} (${count === 1 ? "1 test" : `${count} tests`}, ${seconds} s)`);
    if (word !== "ok  " || result.skipped > 0) console.log(shorten(result.output).replace(/^/gm, "     "));
    totals.passed += result.passed;
    totals.failed += result.failed;
    totals.skipped += result.skipped;
  }
  if (jobs.length === 0) {
    console.log(`no test matches "${only}"; groups are ${[...groups].join(", ")}`);
    totals.failed += 1;
  }
  console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
  process.exitCode = totals.failed > 0 ? 1 : 0;
}

if (basename(process.argv[1] ?? "") === "test.cjs") main();
