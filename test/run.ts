// Runs every check and test, two at once, prints one line for each as it ends, and closes with the totals.
// usage: test [WHAT]         WHAT is a group (static, unit, control, cli, protocol, boot) or part of a name
//        test --long [WHAT]  the group long instead: all *.long.test.ts, which take minutes each
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { type RigChoice, chooseRig, rigsToTest } from "../boot/rigs/choose";

const OUT = join("build", "test");
const BOOT = join("test", "boot");
/** Lines of a failure's output that are shown from its start, and from its end. */
const SHOWN = 60;
const FILE_TIMEOUT_MS = 8 * 60_000;
const LONG_TIMEOUT_MS = 120 * 60_000;
const LONG = ".long.test.ts";
/** How a boot test names a backend on which it only runs with the long ones. */
const LATER = (backend: string): string => `${backend} (long)`;
/** Checks and tests that run at once: each keeps about one CPU busy, as does an emulated machine. */
const AT_ONCE = 2;

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** One thing to run: it reports what it counted, and what to show when something failed. */
interface Job {
  group: string;
  name: string;
  run: () => Promise<Result> | Result;
}

type Result = Totals & { output: string };

/** How a program ended, and what it said. */
interface Ended {
  ok: boolean;
  text: string;
}

const PASS: Totals = { passed: 1, failed: 0, skipped: 0 };
const FAIL: Totals = { passed: 0, failed: 1, skipped: 0 };
const SKIP: Totals = { passed: 0, failed: 0, skipped: 1 };

function run(
  program: string,
  args: string[],
  env: Record<string, string> = {},
  timeout = FILE_TIMEOUT_MS,
): Promise<Ended> {
  const options = {
    encoding: "utf8",
    env: { ...process.env, ...env },
    timeout,
    maxBuffer: 64 << 20,
  } as const;
  return new Promise((done) => {
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      const cause =
        error === null ? "" : `${error.killed ? "ended by its time limit\n" : ""}${error.message}\n`;
      done({ ok: error === null, text: `${stdout}${stderr}${cause}` });
    });
    child.stdin?.end();
  });
}

function asOneTest(ended: Ended): Result {
  return { ...(ended.ok ? PASS : FAIL), output: ended.text };
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
    {
      group: "static",
      name: "types",
      run: async () => asOneTest(await run(tsc, ["--noEmit", "--pretty", "false"])),
    },
    {
      group: "static",
      name: "abi drift",
      run: async () => asOneTest(await run("make", ["--no-print-directory", "-q", "abi"])),
    },
    { group: "static", name: "abi drift, C", run: checkAbiHeader },
  ];
}

/** Every size and offset of abi.def is asserted when C includes its expansion. */
async function checkAbiHeader(): Promise<Result> {
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
  return asOneTest(await run("gcc", [...flags, "/dev/null"]));
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

async function runUnit(source: string, sources: string[]): Promise<Result> {
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
  const build = await run("gcc", [...flags, source, ...sources, "-o", program]);
  if (!build.ok) return { ...FAIL, output: build.text };
  return asOneTest(await run(program, []));
}

/** uvu files: bundled, run alone, counted from uvu's own totals; no totals or none at all is a failure. */
function uvuJobs(group: string, files: string[]): Job[] {
  return files.map((source) => ({ group, name: source, run: () => runUvu(source) }));
}

async function runUvu(source: string, rig = "auto"): Promise<Result> {
  const bundle = join(OUT, rig, source.replace(/\.ts$/, ".cjs"));
  const esbuild = join("node_modules", ".bin", "esbuild");
  const flags = ["--bundle", "--platform=node", "--target=node18", "--format=cjs", "--packages=external"];
  flags.push("--log-level=warning", "--sourcemap=inline", `--outfile=${bundle}`);
  const build = await run(esbuild, [source, ...flags]);
  if (!build.ok) return { ...FAIL, output: build.text };
  const timeout = source.endsWith(LONG) ? LONG_TIMEOUT_MS : FILE_TIMEOUT_MS;
  const env = { FORCE_COLOR: "0", NO_COLOR: "1", PLINTH_RIG: rig };
  const { ok, text: output } = await run(process.execPath, ["--enable-source-maps", bundle], env, timeout);
  const sum = (label: string): number =>
    [...output.matchAll(new RegExp(`^\\s*${label}:\\s+(\\d+)`, "gm"))].reduce(
      (total, match) => total + Number(match[1]),
      0,
    );
  const total = sum("Total");
  const skipped = sum("Skipped");
  const passed = sum("Passed");
  if (total + skipped === 0) return { ...FAIL, output: `${output}\n${source} ran no test` };
  const failed = Math.max(total - passed, ok ? 0 : 1);
  return { passed, failed, skipped, output };
}

/**
 * A line `// rigs: WORDS` in a boot test: `best`, one run on the best rig; `own`, it starts what it needs; or the
 * backends that it runs on, `VT-x (long)` only with `--long`. Without it, it runs on VT-x, and on the rig that
 * PLINTH_RIG names.
 */
function rigsLine(source: string): string {
  return /^\/\/ rigs: (.*)$/m.exec(readFileSync(source, "utf8"))?.[1] ?? "";
}

/**
 * Whole-system tests run once on the rig of each backend that they name, or only on the rig that PLINTH_RIG names.
 * Where CI runs, a missing rig is a failure.
 */
function bootJobs(group: string, files: string[]): Job[] {
  const rigs = rigsToTest();
  const asked = (process.env.PLINTH_RIG ?? "auto") !== "auto";
  return files.flatMap((source) => {
    const wanted = rigsLine(source);
    if (wanted === "own") return [{ group, name: source, run: () => runUvu(source) }];
    if (wanted === "best") return [bootJob(group, source, chooseRig())];
    const isLater = group === "long" && !source.endsWith(LONG);
    return rigs
      .filter(({ backend }) => {
        if (wanted === "") return asked || backend === "VT-x";
        if (wanted.split(", ").includes(LATER(backend))) return isLater || asked;
        return !isLater && wanted.split(", ").includes(backend);
      })
      .map(({ choice }) => bootJob(group, source, choice));
  });
}

function bootJob(group: string, source: string, choice: RigChoice): Job {
  const { kind, reason } = choice;
  if (kind !== null) return { group, name: `${source} on ${kind}`, run: () => runUvu(source, kind) };
  const outcome = process.env.CI === "true" ? FAIL : SKIP;
  return { group, name: source, run: () => ({ ...outcome, output: reason }) };
}

/** The tests in Node below a folder: those that take minutes, or the others. */
function sources(folder: string, long: boolean): string[] {
  return findFiles(folder, ".test.ts").filter((source) => source.endsWith(LONG) === long);
}

/** What takes minutes: whole systems in test/boot, also those that are short on their other backend, and the rest in Node. */
function longJobs(): Job[] {
  const all = sources("test", true);
  const later = sources(BOOT, false).filter((source) => rigsLine(source).includes(LATER("")));
  return [
    ...uvuJobs(
      "long",
      all.filter((source) => !source.startsWith(BOOT)),
    ),
    ...bootJobs("long", [...all.filter((source) => source.startsWith(BOOT)), ...later]),
  ];
}

function shortJobs(): Job[] {
  const groups = ["protocol", "control", "cli", "rigs"];
  return [
    ...staticJobs(),
    ...unitJobs(),
    ...groups.flatMap((group) => uvuJobs(group, sources(join("test", group), false))),
    ...bootJobs("boot", sources(BOOT, false)),
  ];
}

/** At most `SHOWN` lines of each end of a text. */
function shorten(text: string): string {
  const lines = text.trimEnd().split("\n");
  if (lines.length <= 2 * SHOWN) return lines.join("\n");
  const left = lines.length - 2 * SHOWN;
  return [...lines.slice(0, SHOWN), `... ${left} lines left out ...`, ...lines.slice(-SHOWN)].join("\n");
}

async function runJob(job: Job, totals: Totals): Promise<void> {
  const began = Date.now();
  const result = await job.run();
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  const word = result.failed > 0 ? "FAIL" : result.passed > 0 ? "ok  " : "skip";
  const count = result.passed + result.failed + result.skipped;
  console.log(`${word} ${job.name} (${count === 1 ? "1 test" : `${count} tests`}, ${seconds} s)`);
  if (word !== "ok  " || result.skipped > 0) console.log(shorten(result.output).replace(/^/gm, "     "));
  totals.passed += result.passed;
  totals.failed += result.failed;
  totals.skipped += result.skipped;
}

async function main(): Promise<void> {
  const long = process.argv[2] === "--long";
  const only = process.argv[long ? 3 : 2] ?? "";
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  const all = long ? longJobs() : shortJobs();
  const groups = new Set(all.map((job) => job.group));
  const jobs = all.filter(
    (job) => only === "" || (groups.has(only) ? job.group === only : job.name.includes(only)),
  );
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const left = [...jobs];
  const worker = async (): Promise<void> => {
    for (let job = left.shift(); job !== undefined; job = left.shift()) await runJob(job, totals);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (jobs.length === 0) {
    console.log(`no test matches "${only}"; groups are ${[...groups].join(", ")}`);
    totals.failed += 1;
  }
  console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
  process.exitCode = totals.failed > 0 ? 1 : 0;
}

if (basename(process.argv[1] ?? "") === "test.cjs") void main();
