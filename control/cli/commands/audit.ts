// `plinth audit`, which lists the audit log, and `plinth audit verify`.

import kleur from "kleur";
import { checkNoted, readAudit, type AuditRecord } from "../audit";
import type { Command, Context } from "../command";
import { counted, oneLine } from "../output";
import { formatTime, parseNumber } from "../values";

export const audit: Command = {
  name: "audit",
  operands: "",
  options: [{ name: "since", value: "N", summary: "only records after number N" }],
  completes: ["verify"],
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
