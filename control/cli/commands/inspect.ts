// The commands that look and change nothing: status, ls, show, images, hardware, doctor.

import kleur from "kleur";
import * as schema from "../../protocol/schema";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError } from "../errors";
import { colourState, counted, oneLine, since } from "../output";
import type { BalloonRow, HostStatus, PortRow, VmDetails, VmRow } from "../results";
import { FILTER_KEYS, filterVms } from "../filter";
import { formatSize } from "../values";

export const status: Command = {
  name: "status",
  operands: "",
  options: [],
  summary: "the host: version, CPU, memory, VMs",
  run: async (context) => {
    const host = await (await context.connect()).status();
    const { out } = context;
    if (out.json) return out.object(host);
    const { memory, vms } = host;
    out.facts([
      ["host", oneLine(host.host)],
      ["version", oneLine(host.version)],
      ["up", since(host.uptimeMs)],
      ["cpu", `${host.cpus} x ${oneLine(host.cpu)}`],
      ["rig", oneLine(host.rig)],
      ["memory", `${formatSize(memory.free)} free of ${formatSize(memory.total)}`],
      ["", `${formatSize(memory.kernel)} kernel, ${formatSize(memory.reserved)} reserved`],
      ["vms", `${vms.running} running of ${vms.total}`],
      ["control", `image ${controlText(host.control)}, ${counted(host.controlRestarts, "restart")}`],
      ["bad frames", `${host.badFrames}, ${host.overruns ?? 0} overruns`],
      ...(host.denials
        ? ([["denied", `${counted(host.denials, "time")} by policy; see 'plinth tenants'`]] as const)
        : []),
      ["features", (host.features ?? []).map(oneLine).join(" ")],
    ]);
  },
};

/** "3fa9c1d2e4b5 (on trial), policy hooks lab". */
function controlText(control: HostStatus["control"]): string {
  const trial = control?.trial ? " (on trial)" : "";
  const hooks =
    control && control.hooks !== schema.HOOKS_NONE ? `, policy hooks ${oneLine(control.hooks)}` : "";
  return oneLine(control?.image).slice(0, 12) + trial + hooks;
}

export const free: Command = {
  name: "free",
  operands: "",
  options: [],
  summary: "the host's memory",
  run: async (context) => {
    const { memory } = await (await context.connect()).status();
    if (context.out.json) return context.out.object(memory);
    const used = memory.total - memory.free - memory.kernel - memory.reserved;
    context.out.table(
      ["MEMORY", ">SIZE", ">BYTES"],
      (
        [
          ["total", memory.total],
          ["VMs and components", used],
          ["kernel", memory.kernel],
          ["reserved", memory.reserved],
          ["free", memory.free],
          ["of it promised", memory.promised],
          ["of it zeroed", memory.clean],
        ] as const
      ).map(([name, bytes]) => [name, formatSize(bytes), String(bytes)]),
    );
  },
};

export const ls: Command = {
  name: "ls",
  operands: "[CONDITION...]",
  options: [{ name: "one", summary: "exactly one VM: print its name; else fail" }],
  completes: FILTER_KEYS,
  summary: "the VMs and their states; all of them, or those that conditions choose",
  details: [
    "Conditions are name=, state=, tenant=, tag= and protected=; all must hold.",
    "A value may have '*', and alternatives with commas: state=running,paused.",
  ].join("\n"),
  examples: ["plinth ls tag=web state=running", "plinth console $(plinth ls --one tag=db)"],
  run: async (context) => {
    const { operands } = context.args;
    filterVms([], operands);
    const all = await (await context.connect()).list();
    const vms = filterVms(all, operands);
    if (context.args.has("one")) return printOne(context, vms);
    if (context.out.json) return context.out.object({ vms });
    if (all.length === 0) return context.out.talk("no VMs; next: plinth help create");
    if (vms.length === 0) return context.out.talk(`none of ${counted(all.length, "VM")}; next: plinth ls`);
    printRows(context, vms);
  },
};

/** The one VM that was chosen, for scripts. */
function printOne(context: Context, vms: readonly VmRow[]): void {
  const [vm] = vms;
  if (vms.length === 1)
    return context.out.json ? context.out.object(vm) : context.out.line(oneLine(vm!.name));
  const which =
    vms.length === 0
      ? "no VM"
      : `${vms.length} VMs, not one: ${vms.map(({ name }) => oneLine(name)).join(", ")}`;
  const code = vms.length === 0 ? ErrorCode.NOT_FOUND : ErrorCode.WRONG_STATE;
  throw new PlinthError({ code, message: `that chooses ${which}`, next: "plinth ls" });
}

/** Prints VMs as a table. */
export function printRows(context: Context, vms: readonly VmRow[]): void {
  // Columns that say something of at least one VM.
  const owned = vms.some(({ tenant }) => tenant !== undefined);
  const tagged = vms.some(({ tags }) => tags !== undefined);
  context.out.table(
    [
      "NAME",
      ...(owned ? ["TENANT"] : []),
      "STATE",
      ">SINCE",
      ">MEMORY",
      ">VCPUS",
      ...(tagged ? ["TAGS"] : []),
      "REASON",
    ],
    vms.map((vm) => [
      oneLine(vm.name),
      ...(owned ? [oneLine(vm.tenant ?? schema.TENANT_DEFAULT)] : []),
      colourState(oneLine(vm.state)),
      since(vm.sinceMs),
      formatSize(vm.memory),
      String(vm.vcpus),
      ...(tagged ? [(vm.tags ?? []).map(oneLine).join(",")] : []),
      oneLine(vm.reason),
    ]),
  );
}

export const show: Command = {
  name: "show",
  operands: "NAME",
  options: [],
  completes: "vm",
  summary: "everything known about one VM",
  run: async (context) => {
    const vm = await (await context.connect()).show(context.args.operands[0]!);
    if (context.out.json) return context.out.object(vm);
    printDetails(context, vm);
  },
};

function printDetails(context: Context, vm: VmDetails): void {
  const { spec, overhead } = vm;
  const restart = spec?.restart;
  const limits =
    restart?.max && restart.policy !== schema.POLICY_NEVER
      ? `, at most ${restart.max} in ${restart.window ?? 0} s`
      : "";
  const facts: [string, string][] = [
    ["name", oneLine(vm.name)],
    ["tenant", oneLine(vm.tenant ?? schema.TENANT_DEFAULT)],
    ["tags", (vm.tags ?? []).map(oneLine).join(", ")],
    ["protected", vm.protected ? "yes" : ""],
    ["state", `${colourState(oneLine(vm.state))} for ${since(vm.sinceMs)}`],
    ["reason", oneLine(vm.reason)],
    ["memory", formatSize(vm.memory) + (vm.mapped ? `, ${formatSize(vm.mapped)} present` : "")],
    ["numa", (vm.nodes ?? []).map(({ node, memory }) => `${formatSize(memory)} on node ${node}`).join(", ")],
    [
      "balloon",
      vm.balloon && vm.balloon.target + vm.balloon.actual < 2 * vm.memory
        ? `leaves it ${formatSize(vm.balloon.actual)}, target ${formatSize(vm.balloon.target)}${heldText(vm.balloon)}`
        : "",
    ],
    ["inside", insideText(vm.balloon)],
    ["vcpus", String(vm.vcpus)],
    ["scheduling", shareText(vm)],
    ["kernel", oneLine(spec?.kernel)],
    ["initrd", oneLine(spec?.initrd)],
    ["boot", oneLine(spec?.boot)],
    ["modules", (spec?.modules ?? []).map((module) => oneLine(module.image)).join(", ")],
    ["firmware", oneLine(spec?.firmware)],
    ["console", spec?.console ? oneLine(spec.console) : ""],
    [
      "disks",
      (spec?.disks ?? [])
        .map((disk) => oneLine(disk.image) + (disk.cdrom ? " (cd)" : disk.readOnly ? " (ro)" : ""))
        .join(", "),
    ],
    ["ports", (vm.ports ?? []).map(portText).join(", ")],
    ["cmdline", oneLine(spec?.cmdline)],
    ["restart", `${oneLine(restart?.policy ?? "never")}${limits}; ${vm.restarts ?? 0} so far`],
    [
      "overhead",
      overhead
        ? `${formatSize(overhead.kernelBytes)} kernel, ${formatSize(overhead.modelBytes)} device model`
        : "",
    ],
    ["run time", since(vm.runtimeMs ?? 0)],
    ["last exit", oneLine(vm.lastExit)],
    ["exits", exitsText(vm)],
    ["braked", brakesText(vm)],
  ];
  for (const card of (vm.devices ?? []).filter((device) => device.network !== undefined))
    facts.push([
      "network",
      `${oneLine(card.network)}, ${oneLine(card.mac)}, link ${oneLine(card.link)}, ` +
        `sent ${card.framesOut} frames, received ${card.framesIn}, dropped ${card.dropsOut} and ${card.dropsIn}`,
    ]);
  context.out.facts(facts.filter(([, value]) => value !== ""));
  const devices = vm.devices ?? [];
  if (devices.length > 0) {
    context.out.line("");
    context.out.table(
      ["DEVICE", ">REQUESTS", ">NOTIFIES", ">INTERRUPTS", ">OUT", ">IN"],
      devices.map((device) => [
        oneLine(device.device),
        String(device.requests),
        String(device.notifies),
        String(device.interrupts),
        String(device.bytesOut),
        String(device.bytesIn),
      ]),
    );
  }
  const counters = Object.entries(vm.counters ?? {}).filter(([, count]) => count > 0);
  counters.sort(([, a], [, b]) => Number(b) - Number(a));
  if (counters.length === 0) return;
  context.out.line("");
  context.out.table(
    [">COUNT", "EXIT"],
    counters.map(([name, count]) => [String(count), oneLine(name)]),
  );
}

function exitsText({ exits = 0, rates }: VmDetails): string {
  return rates
    ? `${exits}; a second: ${rates.exits}, ${rates.ipis} IPIs, ${rates.hypercalls} hypercalls of its device model`
    : String(exits);
}

/** What its device model did too often. */
function brakesText({ model }: VmDetails): string {
  const { throttled = 0, logDropped = 0 } = model ?? {};
  if (throttled + logDropped === 0) return "";
  return `its device model: ${counted(throttled, "hypercall")} had to wait, ${counted(logDropped, "log line")} left out`;
}

/** What the host has taken since it lacks memory. */
function heldText({ held = 0, floor = 0 }: BalloonRow): string {
  return held > 0 ? `; the host holds ${formatSize(held)} back, down to ${formatSize(floor)}` : "";
}

/** What a VM has said of its memory. */
/** "reserved, reserve 25; on CPU 1; waited 3 s, used up 12 times". */
function shareText({ spec, cpus = [], ready = 0, throttles = 0 }: VmDetails): string {
  const { scheduling = schema.SCHEDULING_SHARED, weight, cap, reserve, period, latency } = spec ?? {};
  const parts = Object.entries({ weight, cap, reserve, period, latency, cpus: spec?.cpus })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `, ${name} ${oneLine(String(value))}`);
  const where = cpus.length > 0 ? `; on CPU ${cpus.join(", ")}; waited ${since(ready)}` : "";
  return oneLine(scheduling) + parts.join("") + where + (throttles > 0 ? `, used up ${throttles} times` : "");
}

function insideText(balloon: BalloonRow | undefined): string {
  if (!balloon?.total) return "";
  const { total, free = 0, available = 0, caches = 0, majorFaults = 0 } = balloon;
  const sizes = `${formatSize(free)} free of ${formatSize(total)}, ${formatSize(available)} available`;
  return `${sizes}, ${formatSize(caches)} caches; ${majorFaults} major faults`;
}

/** "data (open)": what each side does with a port. */
function portText({ name, open, attached }: PortRow): string {
  const words = [open ? "open" : "", attached ? "attached" : ""].filter((word) => word !== "");
  return oneLine(name) + (words.length > 0 ? ` (${words.join(", ")})` : "");
}

export const images: Command = {
  name: "images",
  operands: "",
  options: [],
  summary: "the kernels and initrds that the host has",
  run: async (context) => {
    const list = await (await context.connect()).images();
    if (context.out.json) return context.out.object({ images: list });
    context.out.table(
      ["NAME", ">SIZE"],
      list.map((image) => [oneLine(image.name), formatSize(image.size)]),
    );
  },
};

export const hardware: Command = {
  name: "hardware",
  operands: "",
  options: [],
  summary: "what the machine is: CPU, NUMA nodes, IOMMU, firmware, PCI devices",
  run: async (context) => {
    const machine = await (await context.connect()).hardware();
    const { out } = context;
    if (out.json) return out.object(machine);
    const { cpu, cpus, firmware, iommu } = machine;
    out.facts([
      ["cpu", oneLine(cpu.name)],
      ["", `${oneLine(cpu.vendor)} family ${cpu.family} model ${cpu.model} stepping ${cpu.stepping}`],
      ["cpus", `${cpus.running} of ${cpus.found} run; APIC ids ${cpus.apicIds.join(" ")}`],
      ["rig", oneLine(machine.rig)],
      ["memory", formatSize(machine.memory.total)],
      ["firmware", oneLine(firmware.kind)],
      ["acpi", firmware.acpi === 0 ? "none" : `${oneLine(firmware.oem)} ${oneLine(firmware.table)}`],
      ["", firmware.tables.map(oneLine).join(" ")],
      ["iommu", iommu.kind === "" ? "none" : `${oneLine(iommu.kind)}, ${counted(iommu.units, "unit")}`],
      ["numa", counted(Math.max(machine.nodes, 1), "node")],
      ...machine.numa.map((node): [string, string] => [
        "",
        `node ${node.node}: ${counted(node.cpus, "CPU")}, ${formatSize(node.memory)}${
          node.free === undefined ? "" : `, ${formatSize(node.free)} free`
        }`,
      ]),
      ["has", machine.features.map(oneLine).join(" ")],
      ...machine.missing.map((feature, n): [string, string] => [
        n === 0 ? "lacks" : "",
        `${oneLine(feature.name)}: ${oneLine(feature.cost)}`,
      ]),
      ...machine.flaws.map((flaw, n): [string, string] => [
        n === 0 ? "flaws" : "",
        `${flaw.ok ? "" : kleur.yellow("open: ")}${oneLine(flaw.name)}: ${oneLine(flaw.text)}`,
      ]),
      ...machine.mitigations.map(({ kind, level, does, cost }, n): [string, string] => [
        n === 0 ? "mitigations" : "",
        `${oneLine(kind)} (${oneLine(level)}): ${does ? `${oneLine(does)}; cycles: ${oneLine(cost)}` : "nothing"}`,
      ]),
      ...machine.problems.map((text): [string, string] => ["problem", oneLine(text)]),
    ]);
    out.line("");
    out.table(
      ["PCI", "ID", "CLASS", ""],
      machine.pci.map((device) => [device.at, device.id, device.class, device.text].map(oneLine)),
    );
  },
};

export const doctor: Command = {
  name: "doctor",
  operands: "",
  options: [],
  summary: "check the host and the line to it; with --json also what the machine is",
  run: async (context) => {
    const client = await context.connect();
    const checks = await client.doctor();
    const bad = client.line.badFrames;
    const text = `protocol ${client.hello.version}, ${client.hello.product} build ${client.hello.build}; ${bad} bad frames received`;
    checks.unshift({ name: "connection", ok: bad === 0, text });
    if (context.out.json) context.out.object({ checks, hardware: await client.hardware() });
    for (const check of context.out.json ? [] : checks) {
      const mark = check.ok ? kleur.green("ok  ") : kleur.red("FAIL");
      context.out.line(`${mark}  ${kleur.bold(oneLine(check.name))}: ${oneLine(check.text)}`);
    }
    const failed = checks.filter((check) => !check.ok);
    if (failed.length === 0) return;
    const names = failed.map((check) => oneLine(check.name)).join(", ");
    throw new PlinthError({
      code: ErrorCode.FAILED,
      message: `${failed.length} of ${checks.length} checks failed: ${names}`,
    });
  },
};
