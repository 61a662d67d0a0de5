// The commands that change tenants: tenant set, tenant rm.

import type { Command, Context } from "../command";
import { usageError } from "../errors";
import { oneLine } from "../output";
import type { TenantRow, TenantSpec } from "../results";
import { formatSize, parseNumber, parseSize } from "../values";

const COUNTS = ["vms", "vcpus", "exits", "ipis", "hypercalls", "log"] as const;
const PERCENTS = ["cache", "bandwidth"] as const;
const isCount = (key?: string): key is (typeof COUNTS)[number] => COUNTS.some((count) => count === key);
const isPercent = (key?: string): key is (typeof PERCENTS)[number] => PERCENTS.some((part) => part === key);

export const tenantSet: Command = {
  name: "tenant set",
  operands: "NAME [KEY=VALUE...]",
  options: [],
  completes: "tenant",
  keys: ["memory", "cpus", ...COUNTS, ...PERCENTS].map((key) => `${key}=`),
  summary: "make a tenant, or change its limits",
  details: [
    "memory=SIZE is what all its VMs have together, running or not, with their disks and what is beside them;",
    "vms=N and vcpus=N are how many; cpus=SET are CPUs of the host of its own, like 0-3,6.",
    "cache=N% of the last-level cache is nobody else's, bandwidth=N% is the most it has of the memory's; what the CPU",
    "cannot partition is refused.",
    "exits=N and ipis=N brake what its VMs cause in a second, all together, hypercalls=N what their device models",
    "ask of the kernel, and log=N how many bytes those write to its log. 'none' is no limit; what is not given stays.",
    "'plinth tenants' lists them.",
  ].join("\n"),
  examples: ["plinth tenant set lab memory=512M vms=4 vcpus=8", "plinth tenant set lab memory=none cpus=2-3"],
  run: async (context) => {
    const spec = limitsOf(context);
    const row = await (await context.connect()).setTenant(spec);
    if (context.out.json) context.out.object(row);
    else context.out.talk(`${oneLine(row.name)}: ${limitsText(row)}`);
  },
};

export const tenantRm: Command = {
  name: "tenant rm",
  operands: "NAME",
  options: [],
  completes: "tenant",
  summary: "remove a tenant that has no VMs",
  run: async (context) => {
    const row = await (await context.connect()).removeTenant(context.args.operands[0]!);
    if (context.out.json) context.out.object(row);
    else context.out.talk(`${oneLine(row.name)}: removed`);
  },
};

function limitsOf(context: Context): TenantSpec {
  const [name, ...words] = context.args.operands;
  const spec: TenantSpec = { name: name! };
  for (const word of words) {
    const [, key, text] = /^(\w+)=(.*)$/s.exec(word) ?? [];
    if (key === "memory") spec.memory = text === "none" ? 0 : parseSize(text!, key);
    else if (key === "cpus") spec.cpus = text === "none" ? "" : text!;
    else if (isCount(key)) spec[key] = text === "none" ? 0 : parseNumber(text!, key);
    else if (isPercent(key)) spec[key] = text === "none" ? 0 : parseNumber(text!.replace(/%$/, ""), key);
    else
      throw usageError(
        `'${word}' is none of memory=SIZE, vms=N, vcpus=N, cpus=SET, exits=N, ipis=N, hypercalls=N, log=N, cache=N%, bandwidth=N%`,
        "plinth help tenant set",
      );
  }
  return spec;
}

/** "at most 512 MiB, 4 VMs, 8 vCPUs". */
function limitsText(row: TenantRow): string {
  const { memory, vms, vcpus, cpus, exits, ipis, hypercalls, log, cache, bandwidth } = row;
  const limits = [
    memory === undefined ? "" : formatSize(memory),
    vms === undefined ? "" : `${vms} VMs`,
    vcpus === undefined ? "" : `${vcpus} vCPUs`,
    exits === undefined ? "" : `${exits} exits a second`,
    ipis === undefined ? "" : `${ipis} IPIs a second`,
    hypercalls === undefined ? "" : `${hypercalls} hypercalls a second`,
    log === undefined ? "" : `${log} bytes of log a second`,
    cache === undefined ? "" : `${cache} % of the cache, for itself`,
    bandwidth === undefined ? "" : `${bandwidth} % of the memory bandwidth`,
  ].filter((limit) => limit !== "");
  const text = limits.length > 0 ? `at most ${limits.join(", ")}` : "no limits";
  return cpus === undefined ? text : `${text}, on CPUs ${cpus}`;
}
