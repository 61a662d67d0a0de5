// `plinth audit`, which lists the audit log, and `plinth audit verify`.

import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import kleur from "kleur";
import { Hooks } from "../../domain/hooks/hooks";
import { checkNoted, readAudit, type AuditRecord } from "../audit";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { counted, oneLine } from "../output";
import { type Replay, replayRecord } from "../replay";
import { formatTime, parseNumber } from "../values";

export const audit: Command = {
  name: "audit",
  operands: "",
  options: [{ name: "since", value: "N", summary: "only records after number N" }],
  completes: ["verify", "replay"],
  summary: "who has done what, and with which verdict: the host's audit log",
  details: "'cli' is a program on the line, 'shell' a person there, 'host' what the host did by itself.",
  examples: ["plinth audit", "plinth audit --json --since 17", "plinth audit verify"],
  run: async (context) => {
    const since = parseNumber(context.args.value("since") ?? "0", "--since");
    const { records } = await readAudit(await context.connect());
    for (const record of records.filter(({ seq }) => seq > since)) printRecord(context, record);
  },
};

export const auditVerify: Command = {
  name: "audit verify",
  operands: "",
  options: [
    { name: "head", value: "N:HASH", summary: "also that record N has the hash that was printed earlier" },
  ],
  summary: "compute the audit log's chain of hashes again",
  details:
    "Keep what it prints elsewhere: whoever changes the log later cannot give that record the same hash.",
  examples: ["plinth audit verify", "plinth audit verify --head 17:9f86d081..."],
  run: async (context) => {
    const log = await readAudit(await context.connect());
    const noted = context.args.value("head");
    if (noted !== undefined) checkNoted(log, noted);
    const { head, checkpoint, records } = log;
    if (context.out.json) return context.out.object({ records: records.length, head, checkpoint });
    context.out.line(`${head.seq}:${head.hash}`);
    const older =
      checkpoint.seq > 0 ? `, after ${counted(checkpoint.seq, "older one")} of which the hash is kept` : "";
    context.out.talk(`the chain of ${counted(records.length, "record")} is whole${older}`);
  },
};

export const auditReplay: Command = {
  name: "audit replay",
  operands: "",
  options: [
    {
      name: "hooks",
      value: "FILE",
      choices: ["file"],
      summary:
        "the policy hooks of the control image, as 'make control-image' builds them for Node (NAME.cjs)",
    },
  ],
  summary: "decide again what the host has decided: by its planner and policy hooks, from the facts it kept",
  details:
    "Of create, set and apply, and of what policy hooks did after events. Fails with 7 if a record was changed, or decided in another way than it should.",
  examples: ["plinth audit replay", "plinth audit replay --hooks build/control-lab.cjs"],
  run: async (context) => {
    const { out, args } = context;
    const hooks = loadHooks(args.value("hooks"));
    const client = await context.connect();
    const { records } = await readAudit(client);
    const replays: Replay[] = [];
    for (const record of records) {
      if (!record.facts) continue;
      const [at, size] = record.facts;
      replays.push(replayRecord(record, await client.auditFacts(at, size), hooks));
    }
    const wrong = replays.filter(({ problem }) => problem !== "");
    const skipped = replays.filter((replay) => replay.skipped !== "");
    if (out.json) out.object({ decisions: replays.length, skipped, wrong });
    for (const { seq, problem } of wrong) out.talk(`record ${seq}: ${oneLine(problem)}`);
    for (const { seq, skipped: why } of skipped) if (!out.json) out.talk(`record ${seq}: ${oneLine(why)}`);
    const same = replays.length - wrong.length - skipped.length;
    if (wrong.length > 0)
      throw new PlinthError({
        code: ErrorCode.INTEGRITY,
        message: `${counted(wrong.length, "decision")} of ${replays.length} cannot have been made so`,
        object: "audit",
        next: "plinth audit",
      });
    if (!out.json) out.talk(`${counted(same, "decision")} of ${replays.length} made again: the same`);
  },
};

/** Hooks that were bundled for Node, or those that decide nothing. */
function loadHooks(file: string | undefined): Hooks {
  if (file === undefined) return new Hooks();
  try {
    const module = createRequire(join(process.cwd(), "plinth"))(resolve(file)) as { hooks: () => Hooks };
    return module.hooks();
  } catch (error) {
    throw usageError(`--hooks: ${oneLine((error as Error).message)}`, "plinth help audit replay");
  }
}

function printRecord({ out }: Context, record: AuditRecord): void {
  if (out.json) return out.record(record);
  const at = kleur.dim(formatTime(record.at).padStart(12));
  const object = record.object ? `${oneLine(record.object)}: ` : "";
  const verdict = record.code > 0 ? kleur.red(`refused (${record.code}): `) : "";
  const what = kleur.bold(oneLine(record.kind).padEnd(17));
  const who = oneLine(record.who).padEnd(5);
  out.line(
    `${String(record.seq).padStart(5)} ${at}  ${who}  ${what}  ${object}${verdict}${oneLine(record.text)}`,
  );
}
