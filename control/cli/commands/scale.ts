// `plinth scale`: so many copies of a VM.

import * as schema from "../../protocol/schema";
import type { Command } from "../command";
import { usageError } from "../errors";
import { planScale, runScale, snapshotFor } from "../fleet/scale";
import { parseNumber } from "../values";

export const scale: Command = {
  name: "scale",
  operands: "VM",
  options: [
    { name: "to", value: "N", summary: "how many copies there are to be" },
    {
      name: "snapshot",
      value: "NAME",
      choices: ["snapshot"],
      summary: "what they go on from; if not given, scale.VM, which is made of VM when it is needed first",
    },
    { name: "force", summary: "end those that go at once, without asking them" },
    { name: "overcommit", summary: "even if memory may not suffice for all that they write later" },
    { name: "dry-run", summary: "only say what would be done" },
  ],
  completes: "vm",
  summary: "make or remove copies of a VM that goes on from a snapshot: VM-1, VM-2 and so on",
  details: [
    "Each has a name, network addresses and a VM generation ID of its own, and shares the snapshot's memory until it writes.",
    "Missing numbers are made from the lowest up. Those that are too many go from the highest down: their power button is",
    "pressed, they power off (--timeout limits each), and are removed. VM itself is not counted and not touched.",
    "'plinth snapshot rm scale.VM' makes the next copies go on from what VM is then.",
  ].join("\n"),
  examples: [
    "plinth scale web --to 8",
    "plinth scale web --to 0 --force",
    "plinth scale web --to 3 --snapshot warm",
  ],
  run: async (context) => {
    const { args, out } = context;
    const vm = args.operands[0]!;
    const given = args.value("to");
    if (given === undefined) throw usageError("'plinth scale' needs --to N", "plinth help scale");
    const to = parseNumber(given, "--to");
    if (to > schema.Specification.MAX_VMS)
      throw usageError(`--to: a host has at most ${schema.Specification.MAX_VMS} VMs`);
    const options = {
      client: await context.connect(),
      out,
      vm,
      to,
      snapshot: args.value("snapshot") ?? snapshotFor(vm),
      force: args.has("force"),
      overcommit: args.has("overcommit"),
      timeout: context.longTimeout,
    };
    const plan = await planScale(options);
    if (args.has("dry-run")) {
      if (out.json) return out.object(plan);
      if (plan.keeps) out.line(`keep ${vm} as ${plan.snapshot}`);
      for (const name of plan.makes) out.line(`make ${name} from ${plan.snapshot}`);
      for (const name of plan.removes) out.line(`remove ${name}`);
      if (plan.makes.length + plan.removes.length === 0) out.talk(`${vm} has ${to}: nothing is to be done`);
      return;
    }
    await runScale(options, plan);
    if (out.json) return out.object({ ...plan, copies: to });
    const said = [
      ...(plan.makes.length > 0 ? [`${plan.makes.length} made`] : []),
      ...(plan.removes.length > 0 ? [`${plan.removes.length} removed`] : []),
    ];
    out.talk(`${vm} has ${to}: ${said.length > 0 ? said.join(", ") : "nothing was to be done"}`);
  },
};
