// `plinth policy explain` and `plinth policy check`: what can flow between domains, and what of it no rule allows.

import kleur from "kleur";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError } from "../errors";
import { counted, oneLine } from "../output";
import type { FlowRow, PolicyResult } from "../results";

export const policyExplain: Command = {
  name: "policy explain",
  operands: "ONE OTHER",
  options: [],
  completes: "vm",
  summary: "whether and how anything can flow between two VMs, tenants or domains",
  details: [
    "It reads the kernel's capability tables and mappings, not the specification: shared memory, channels,",
    "rights on each other, ways through other VMs, and which CPUs, cores and caches they share.",
    "A name is a VM, a tenant ('tenant=NAME' where a VM has it too), 'control', or one domain: vm/ada, dm/ada.",
    "It exits with 6 if something is possible that no rule allows.",
  ].join("\n"),
  examples: ["plinth policy explain ada bob", "plinth policy explain lab control --json"],
  run: async (context) => {
    const [one, other] = context.args.operands;
    report(context, await (await context.connect()).policy(one, other));
  },
};

export const policyCheck: Command = {
  name: "policy check",
  operands: "",
  options: [],
  summary: "whether anything can flow between any two tenants that no rule allows",
  details:
    "It exits with 6 if so. Rules are in the specification: rules: [{tenants: [a, b], share: [networks]}].",
  run: async (context) => report(context, await (await context.connect()).policy()),
};

function report(context: Context, result: PolicyResult): void {
  const { out } = context;
  const { flows, forbidden, pairs } = result;
  if (out.json) out.object(result);
  for (const flow of out.json ? [] : flows) {
    const verdict = flow.allowed ? kleur.green("allowed  ") : kleur.red("FORBIDDEN");
    out.line(`${verdict}  ${kleur.bold(oneLine(flow.kind).padEnd(10))}  ${endsOf(flow)}`);
    out.line(`           ${oneLine(flow.text)}: ${oneLine(flow.reason)}`);
  }
  if (forbidden > 0) {
    const first = flows.find(({ allowed }) => !allowed);
    const message = `${counted(forbidden, "way")} that no rule allows${first ? `: ${oneLine(first.text)}` : ""}`;
    throw new PlinthError({ code: ErrorCode.DENIED, message, object: first?.one, next: "plinth tenants" });
  }
  const among = pairs === undefined ? "" : ` between ${counted(pairs, "pair")} of tenants`;
  const nothing = flows.length === 0 && pairs === undefined ? "nothing: not both are there to run" : "";
  if (!out.json) out.talk(nothing || `nothing forbidden${among}`);
}

function endsOf({ one, other, direction }: FlowRow): string {
  return `${oneLine(one)} ${oneLine(direction)} ${oneLine(other)}`;
}
