// The commands about specifications: schema, export, check, diff, apply; and tenants and set.

import kleur from "kleur";
import { createInterface } from "node:readline";
import { SHARE_FIELDS } from "../../protocol/cpus";
import * as schema from "../../protocol/schema";
import type { Message } from "../../protocol/node/cbor";
import type { Option } from "../arguments";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { counted, oneLine, type Output } from "../output";
import { Transfer } from "../progress";
import type { PlanResult, Refusal, Step, TenantRow, VmSpec } from "../results";
import { encodeHostSpec, type HostSpec, readHostSpec } from "../spec";
import { FORMATS, writeSpec } from "../spec-file";
import { planOffline } from "../spec-plan";
import { HOST_SCHEMA } from "../spec-schema";
import { changedFields } from "../spec-options";
import { formatSize } from "../values";
import { WAIT_STATES, waitForState } from "../wait";

const FILE: Option = {
  name: "file",
  short: "f",
  value: "FILE",
  choices: ["file"],
  summary: "the specification: JSON, YAML or TOML; - is stdin",
};
const FORMS =
  "A file is JSON, YAML or TOML, told by its name's end; 'plinth schema' prints what may be in it.";

export const schemaCommand: Command = {
  name: "schema",
  operands: "",
  options: [],
  summary: "print the JSON Schema of specifications",
  details: "For editors: it completes and checks specifications in JSON, YAML and TOML.",
  examples: ["plinth schema > plinth.schema.json"],
  run: async ({ out }) => out.object(HOST_SCHEMA),
};

export const exportCommand: Command = {
  name: "export",
  operands: "",
  options: [
    { name: "format", value: "FORMAT", choices: FORMATS, summary: "yaml (if not given), json or toml" },
  ],
  summary: "print what the host runs as a specification, to change and to apply",
  examples: ["plinth export > host.yaml", "plinth diff -f host.yaml"],
  run: async (context) => {
    const { out, args } = context;
    const format = args.value("format") ?? (out.json ? "json" : "yaml");
    if (!FORMATS.includes(format))
      throw usageError(`--format: '${format}' is none of ${FORMATS.join(", ")}`, "plinth help export");
    const client = await context.connect();
    const vms = [];
    for (const { name } of await client.list()) vms.push(exportVm((await client.show(name)).spec));
    const tenantList = (await client.tenants()).map(({ used: _, denials: __, ...limits }) => limits);
    const { rules, mitigations } = await client.rules();
    const { host } = await client.status();
    const version = schema.Specification.VERSION;
    const isDefault = Object.values(mitigations).every((level) => level === schema.LEVEL_NEEDED);
    const given = { ...(rules.length > 0 ? { rules } : {}), ...(isDefault ? {} : { mitigations }), vms };
    out.line(writeSpec({ version, host: { name: host }, tenants: tenantList, ...given }, format).trimEnd());
  },
};

/** Sends a specification to the host, which plans. */
async function planOnHost(context: Context, file: string, spec: HostSpec): Promise<PlanResult> {
  const bytes = encodeHostSpec(spec);
  const transfer = new Transfer(context.out, `sending ${file}`, bytes.length);
  const client = await context.connect();
  return client.plan(bytes, (sent) => transfer.at(sent)).finally(() => transfer.end());
}

/** A VM's specification without what is not there. */
function exportVm(spec: VmSpec): VmSpec {
  const fields = Object.entries(spec).filter(([, value]) => value !== "");
  return Object.fromEntries(fields) as unknown as VmSpec;
}

export const check: Command = {
  name: "check",
  operands: "",
  options: [FILE],
  summary: "check a specification without a host",
  details: `${FORMS} Whether images are there and memory suffices, says 'plinth diff'.`,
  examples: ["plinth check -f host.yaml"],
  run: async (context) => {
    const { file, spec } = readFile(context, "check");
    const { refusals } = planOffline(spec);
    refuse(refusals, context);
    if (context.out.json)
      context.out.object({ file, vms: spec.vms.length, tenants: spec.tenants?.length ?? 0 });
    else
      context.out.talk(
        `${file}: ${counted(spec.vms.length, "VM")}, no mistake found; next: plinth diff -f ${file}`,
      );
  },
};

export const diff: Command = {
  name: "diff",
  operands: "",
  options: [FILE],
  summary: "what would change if a specification were applied",
  details: `${FORMS} A specification is of the whole host: VMs that it does not name are removed.`,
  examples: ["plinth diff -f host.yaml", "plinth diff -f host.yaml --json"],
  run: async (context) => {
    const { file, spec } = readFile(context, "diff");
    const plan = await planOnHost(context, file, spec);
    printPlan(plan, context.out);
    refuse(plan.refusals, context);
  },
};

export const apply: Command = {
  name: "apply",
  operands: "",
  options: [
    FILE,
    { name: "dry-run", summary: "only print the plan, as 'plinth diff' does" },
    { name: "yes", short: "y", summary: "do not ask, even if VMs are ended or removed" },
    {
      name: "wait",
      value: "STATE",
      optional: true,
      choices: WAIT_STATES,
      summary: "wait until the VMs that are started are there; --timeout limits it (5m)",
    },
  ],
  summary: "make the host what a specification says: all of it, or nothing",
  details: [
    `${FORMS} VMs that the specification does not name are removed.`,
    "If a step fails, those before it are taken back. Ending or removing VMs needs a yes: typed, or --yes.",
  ].join("\n"),
  examples: ["plinth apply -f host.yaml --dry-run", "plinth apply -f host.yaml --yes --wait"],
  run: async (context) => {
    const { file, spec } = readFile(context, "apply");
    const client = await context.connect();
    const plan = await planOnHost(context, file, spec);
    const { out, args } = context;
    const dry = args.has("dry-run");
    if (dry || !out.json) printPlan(plan, out);
    refuse(plan.refusals, context);
    if (dry || plan.steps.length === 0) {
      if (!dry && out.json) out.object({ applied: 0, steps: [] });
      return;
    }
    await consent(context, plan.steps, file);
    const { steps } = await client.apply(plan);
    await waitForAll(context, spec, plan.steps);
    if (out.json) out.object({ applied: steps, steps: plan.steps });
    else out.talk(`applied: ${counted(steps, "step")}`);
  },
};

function readFile(context: Context, command: string): { file: string; spec: HostSpec } {
  const file = context.args.value("file");
  if (file === undefined) throw usageError(`'plinth ${command}' needs -f FILE`, `plinth help ${command}`);
  return { file, spec: readHostSpec(file) };
}

/** Fails with the first refusal; those behind it are told before. */
function refuse(refusals: readonly Refusal[], { out }: Context): void {
  const [first, ...others] = refusals;
  if (first === undefined) return;
  if (!out.json) for (const { message } of others) out.talk(`${kleur.red("refused:")} ${oneLine(message)}`);
  const next = first.next.startsWith("plinth ") ? first.next : `plinth ${first.next}`;
  throw new PlinthError({ code: first.code, message: oneLine(first.message), object: first.object, next });
}

function mark(action: string): string {
  if (action === schema.ACTION_CREATE) return kleur.green("+");
  if (action === schema.ACTION_REMOVE) return kleur.red("-");
  if (action === schema.ACTION_RESTART) return kleur.yellow("!");
  return action === schema.ACTION_REPLACE ? kleur.red("!") : "~";
}

function printPlan(plan: PlanResult, out: Output): void {
  const { steps, refusals, free } = plan;
  if (out.json) return out.object({ steps, refusals, free });
  const width = Math.max(0, ...steps.map(({ object }) => oneLine(object).length));
  for (const step of steps) {
    out.line(
      `${mark(step.action)} ${step.action.padEnd(7)}  ${oneLine(step.object).padEnd(width)}  ${oneLine(step.reason)}`,
    );
  }
  if (steps.length === 0 && refusals.length === 0) out.talk("the host is what the specification says");
}

/** What was in a VM's memory, or on its disks, is lost by this step. */
function isLossy({ action, ends }: Step): boolean {
  return ends || action === schema.ACTION_REMOVE || action === schema.ACTION_REPLACE;
}

/** What loses something needs a yes. */
async function consent(context: Context, steps: readonly Step[], file: string): Promise<void> {
  const lossy = steps.filter(isLossy).map(({ object }) => oneLine(object));
  if (lossy.length === 0 || context.args.has("yes")) return;
  const what = `this ends or removes ${counted(lossy.length, "VM")}: ${lossy.join(", ")}`;
  const next = `plinth apply -f ${file} --yes`;
  if (!context.world.stdin.isTTY || file === "-")
    throw new PlinthError({
      code: ErrorCode.USAGE,
      message: `${what}; that needs --yes`,
      object: lossy[0],
      next,
    });
  if (!(await ask(context, `${what}. Go on? [y/N] `)))
    throw new PlinthError({ code: ErrorCode.FAILED, message: "nothing was done", next });
}

async function ask({ world }: Context, question: string): Promise<boolean> {
  const lines = createInterface({ input: world.stdin, terminal: false });
  world.stderr.write(question);
  const answer = await new Promise<string>((resolve) => {
    lines.once("line", resolve);
    lines.once("close", () => resolve(""));
  });
  lines.close();
  return /^y(es)?$/i.test(answer.trim());
}

/** Waits for the VMs that the plan has started. */
async function waitForAll(context: Context, spec: HostSpec, steps: readonly Step[]): Promise<void> {
  if (!context.args.has("wait")) return;
  const state = context.args.value("wait") || schema.STATE_RUNNING;
  const client = await context.connect();
  const started = [schema.ACTION_CREATE, schema.ACTION_RESTART, schema.ACTION_REPLACE, schema.ACTION_START];
  for (const { action, object } of steps) {
    const vm = spec.vms.find(({ name }) => name === object);
    if (!started.includes(action) || (vm?.start === false && action !== schema.ACTION_RESTART)) continue;
    await waitForState(client, object, state, context.longTimeout, context.out);
  }
}

/** "2", or "2 of 4" where there is a limit. */
function share(used: number, limit: number | undefined, format: (value: number) => string = String): string {
  return limit === undefined ? format(used) : `${format(used)} of ${format(limit)}`;
}

function denialsText({ denials = {} }: TenantRow): string {
  return Object.entries(denials)
    .map(([kind, count]) => `${oneLine(kind)} ${count}`)
    .join(", ");
}

export const tenants: Command = {
  name: "tenants",
  operands: "",
  options: [],
  summary: "whose VMs they are, their limits, and what they use",
  details: [
    "Memory is that of all its VMs, running or not, with their disks and what is beside them.",
    "DENIED counts what the policy has refused them. 'plinth tenant set' makes them and changes their limits, and so",
    "does 'plinth apply'.",
  ].join("\n"),
  run: async (context) => {
    const list = await (await context.connect()).tenants();
    if (context.out.json) return context.out.object({ tenants: list });
    // Columns that say something of at least one tenant.
    const bound = list.some(({ cpus }) => cpus !== undefined);
    const denied = list.some(({ denials }) => Object.keys(denials ?? {}).length > 0);
    context.out.table(
      ["NAME", ">VMS", ">VCPUS", ">MEMORY", ...(bound ? ["CPUS"] : []), ...(denied ? ["DENIED"] : [])],
      list.map((tenant: TenantRow) => [
        oneLine(tenant.name),
        share(tenant.used.vms, tenant.vms),
        share(tenant.used.vcpus, tenant.vcpus),
        share(tenant.used.memory, tenant.memory, formatSize),
        ...(bound ? [oneLine(tenant.cpus ?? "all")] : []),
        ...(denied ? [denialsText(tenant)] : []),
      ]),
    );
  },
};

export const set: Command = {
  name: "set",
  operands: "NAME KEY=VALUE...",
  options: [],
  completes: "vm",
  keys: ["tags=", "protected=", "restart=", ...SHARE_FIELDS.map((field) => `${field}=`)],
  summary: "change of a VM what needs no restart: tags, protected, restart, its share of the CPUs",
  details: [
    "scheduling=shared|reserved|dedicated is how each vCPU gets CPU time: weight=N (100) among shared ones, at most cap=N",
    "percent of a CPU; reserve=N percent in each period=MS (10) for a reserved one; a CPU for itself. latency=MS (20) is how",
    "long a shared one waits at most, cpus=SET where it may run, like 0-3,6. What no CPU has left is refused.",
  ].join("\n"),
  examples: [
    "plinth set a tags=web,blue protected=yes",
    "plinth set a restart=on-failure:3/60s",
    "plinth set a weight=200 cap=80",
    "plinth set a scheduling=reserved reserve=30 period=20",
  ],
  run: async (context) => {
    const [vm, ...words] = context.args.operands;
    const fields = changedFields(words) as Message;
    const row = await (await context.connect()).set(vm!, fields);
    if (context.out.json) context.out.object(row);
    else context.out.talk(`${oneLine(row.name)}: changed`);
  },
};
