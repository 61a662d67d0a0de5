// Result documents as text for a terminal of 80 columns. Lines end in "\n".

import { formatSnapshots } from "./format-snapshots";
import {
  FIELD_AT,
  FIELD_BAD_FRAMES,
  FIELD_OVERRUNS,
  FIELD_ACTUAL,
  FIELD_CODE,
  FIELD_OBJECT,
  FIELD_WHO,
  FIELD_BALLOON,
  SCHEDULING_SHARED,
  FIELD_SCHEDULING,
  FIELD_READY,
  FIELD_THROTTLES,
  FIELD_TARGET,
  FIELD_CHECKS,
  FIELD_CLEAN,
  FIELD_CMDLINE,
  FIELD_CONTROL,
  FIELD_CONTROL_RESTARTS,
  FIELD_COUNTERS,
  FIELD_CPU,
  FIELD_CPUS,
  FIELD_BYTES_IN,
  FIELD_BYTES_OUT,
  FIELD_DEVICE,
  FIELD_DEVICES,
  FIELD_DROPS_IN,
  FIELD_DROPS_OUT,
  FIELD_FRAMES_IN,
  FIELD_FRAMES_OUT,
  FIELD_LINK,
  FIELD_MAC,
  FIELD_NETWORK,
  FIELD_REQUESTS,
  FIELD_EXITS,
  FIELD_HYPERCALLS,
  FIELD_FEATURES,
  FIELD_FORWARDED,
  FIELD_FIRMWARE,
  FIELD_FREE,
  FIELD_HASH,
  FIELD_HOOKS,
  FIELD_HOST,
  FIELD_IMAGE,
  FIELD_IMAGES,
  FIELD_INITRD,
  FIELD_INTERRUPTS,
  FIELD_KERNEL,
  FIELD_KERNEL_BYTES,
  FIELD_LAST_EXIT,
  FIELD_MAPPED,
  FIELD_MAX,
  FIELD_MEMORY,
  FIELD_MODEL_BYTES,
  FIELD_NAME,
  FIELD_NEXT,
  FIELD_OK,
  FIELD_OVERHEAD,
  FIELD_POLICY,
  FIELD_REASON,
  FIELD_PROMISED,
  FIELD_RESERVED,
  FIELD_RESTART,
  FIELD_RESTARTS,
  FIELD_RIG,
  FIELD_RUNNING,
  FIELD_RUNTIME_MS,
  FIELD_SEQ,
  FIELD_SINCE_MS,
  FIELD_SIZE,
  FIELD_SPEC,
  FIELD_STATE,
  FIELD_TEXT,
  FIELD_TOTAL,
  FIELD_TRIAL,
  FIELD_UPTIME_MS,
  FIELD_VCPUS,
  FIELD_VERSION,
  FIELD_VM,
  FIELD_VMS,
  FIELD_WINDOW,
  FIELD_ACPI,
  FIELD_APIC_IDS,
  FIELD_ALLOWED,
  FIELD_DENIALS,
  FIELD_DIRECTION,
  FIELD_FLOWS,
  FIELD_FORBIDDEN,
  FIELD_ONE,
  FIELD_OTHER,
  FIELD_PAIRS,
  FIELD_CLASS,
  FIELD_COST,
  FIELD_FAMILY,
  FIELD_FOUND,
  FIELD_ID,
  FIELD_INTERRUPT_REMAPPING,
  FIELD_IOMMU,
  FIELD_FLOOR,
  FIELD_HELD,
  FIELD_IPIS,
  FIELD_LOG_DROPPED,
  FIELD_RATES,
  FIELD_THROTTLED,
  FIELD_MISSING,
  FIELD_DOES,
  FIELD_FLAWS,
  FIELD_LEVEL,
  FIELD_MITIGATIONS,
  FIELD_MODEL,
  FIELD_NODE,
  FIELD_NODES,
  FIELD_NUMA,
  FIELD_OEM,
  FIELD_PROBLEMS,
  FIELD_STEPPING,
  FIELD_TABLE,
  FIELD_TABLES,
  FIELD_UNITS,
  FIELD_VENDOR,
  FIELD_KIND,
  FIELD_PORTS,
  FIELD_PROTECTED,
  FIELD_TAGS,
  FIELD_TENANT,
  FIELD_TENANTS,
  FIELD_USED,
  TENANT_DEFAULT,
  FIELD_OPEN,
  FIELD_ATTACHED,
  OP_CREATE,
  OP_DOCTOR,
  OP_HARDWARE,
  OP_IMAGES,
  OP_LS,
  OP_BALLOON,
  OP_PAUSE,
  OP_RESET,
  OP_RESUME,
  OP_RM,
  OP_SET,
  OP_SHOW,
  OP_START,
  OP_STATUS,
  OP_STOP,
  OP_POLICY,
  OP_TENANT_RM,
  OP_TENANT_SET,
  OP_TENANTS,
  HOOKS_NONE,
  OP_UPGRADE,
  POLICY_NEVER,
} from "../../protocol/schema";
import { counted, duration, fit, grouped, kib, mib, row, stamp } from "../text";
import { decode } from "../codec";
import { SHARE_FIELDS } from "../../protocol/cpus";
import { Kind, Value } from "../value";

/** The result of an operation as text. */
export function formatResult(op: string, value: Value): string {
  if (op == OP_STATUS) return formatStatus(value);
  if (op == OP_LS) return formatList(value);
  if (op == OP_SHOW) return formatShow(value);
  if (op == OP_TENANTS) return formatTenants(value);
  if (op == OP_TENANT_SET) return formatTenantSet(value);
  if (op == OP_TENANT_RM) return 'tenant "' + value.getText(FIELD_NAME) + '" is removed\n';
  if (op == OP_POLICY) return formatPolicy(value);
  if (op.startsWith("snapshot.")) return formatSnapshots(op, value);
  if (op == OP_IMAGES) return formatImages(value);
  if (op == OP_DOCTOR) return formatDoctor(value);
  if (op == OP_HARDWARE) return formatHardware(value);
  if (op == OP_UPGRADE) return "control image " + value.getText(FIELD_HASH) + " takes over\n";
  return formatDone(op, value);
}

function formatDone(op: string, value: Value): string {
  const name = 'VM "' + value.getText(FIELD_NAME) + '"';
  if (op == OP_RM) return name + " is removed\n";
  const state = value.getText(FIELD_STATE);
  const reason = value.getText(FIELD_REASON);
  const known =
    op == OP_CREATE ||
    op == OP_START ||
    op == OP_RESET ||
    op == OP_STOP ||
    op == OP_PAUSE ||
    op == OP_RESUME ||
    op == OP_SET ||
    op == OP_BALLOON;
  return known ? name + " is " + state + (reason != "" && reason != state ? ": " + reason : "") + "\n" : "";
}

export function line(label: string, text: string): string {
  return label.padEnd(14, " ") + text + "\n";
}

/** A list of words over as many lines as it takes, indented like line(). */
export function wrapped(label: string, words: Value[]): string {
  let out = "";
  let current = "";
  for (let i = 0; i < words.length; i++) {
    if (current.length + words[i].text.length > 62) {
      out += line(out == "" ? label : "", current);
      current = "";
    }
    current += (current != "" ? " " : "") + words[i].text;
  }
  return out + line(out == "" ? label : "", current);
}

function formatStatus(value: Value): string {
  const vms = value.get(FIELD_VMS)!;
  const restarts = value.getUint(FIELD_CONTROL_RESTARTS);
  const damaged = value.getUint(FIELD_BAD_FRAMES);
  const overruns = value.getUint(FIELD_OVERRUNS);
  const denials = value.getUint(FIELD_DENIALS);
  return (
    line("host", value.getText(FIELD_HOST) + ", up " + duration(value.getUint(FIELD_UPTIME_MS))) +
    line("version", value.getText(FIELD_VERSION)) +
    line("cpu", fit(value.getUint(FIELD_CPUS).toString() + " x " + value.getText(FIELD_CPU), 64)) +
    line("rig", value.getText(FIELD_RIG)) +
    line("memory", formatFreeShort(value.get(FIELD_MEMORY)!)) +
    line("VMs", vms.getUint(FIELD_TOTAL).toString() + ", " + vms.getUint(FIELD_RUNNING).toString() + " up") +
    line("control", counted(restarts, "restart") + ", " + counted(damaged, "damaged frame")) +
    line("", formatImage(value.get(FIELD_CONTROL)!)) +
    (overruns > 0 ? line("line", counted(overruns, "overrun") + " of the serial port: input was lost") : "") +
    (denials > 0 ? line("policy", counted(denials, "denial")) : "") +
    wrapped("CPU features", value.getList(FIELD_FEATURES))
  );
}

function formatImage(control: Value): string {
  const trial = control.getBool(FIELD_TRIAL) ? ", on trial" : "";
  const hooks = control.getText(FIELD_HOOKS);
  const policy = hooks != HOOKS_NONE ? ", policy hooks " + hooks : "";
  return "image " + control.getText(FIELD_IMAGE).substring(0, 12) + trial + policy;
}

function formatFreeShort(memory: Value): string {
  return mib(memory.getUint(FIELD_FREE)) + " free of " + mib(memory.getUint(FIELD_TOTAL));
}

/** `free`: the memory part of `status`. */
export function formatFree(status: Value): string {
  const memory = status.get(FIELD_MEMORY)!;
  return (
    line("total", mib(memory.getUint(FIELD_TOTAL))) +
    line(
      "free",
      mib(memory.getUint(FIELD_FREE)) + ", " + mib(memory.getUint(FIELD_CLEAN)) + " of it zeroed",
    ) +
    line("kernel", kib(memory.getUint(FIELD_KERNEL))) +
    line("reserved", kib(memory.getUint(FIELD_RESERVED)) + " (promised to VMs as kernel memory, not used)") +
    line("promised", kib(memory.getUint(FIELD_PROMISED)) + " (kept for what snapshots' VMs write to)")
  );
}

/** The tenant is a column where a VM has another than the default one. */
function formatList(value: Value): string {
  const vms = value.getList(FIELD_VMS);
  if (vms.length == 0) return "no VMs\n";
  let width = 8;
  let owner = 0;
  for (let i = 0; i < vms.length; i++) {
    width = max(width, vms[i].getText(FIELD_NAME).length + 1);
    if (vms[i].get(FIELD_TENANT) != null) owner = max(owner, vms[i].getText(FIELD_TENANT).length + 1);
  }
  if (owner > 0) owner = max(owner, 8);
  const widths: i32[] = [width + owner, 9, 10, 6, 12];
  const heading = owner > 0 ? "NAME".padEnd(width, " ") + "TENANT" : "NAME";
  let out = row([heading, "STATE", "MEMORY", "VCPUS", "FOR", "REASON"], widths) + "\n";
  for (let i = 0; i < vms.length; i++) {
    const vm = vms[i];
    const name = vm.getText(FIELD_NAME);
    const tenant = vm.getText(FIELD_TENANT, TENANT_DEFAULT);
    const cells: string[] = [
      owner > 0 ? name.padEnd(width, " ") + tenant : name,
      vm.getText(FIELD_STATE),
      mib(vm.getUint(FIELD_MEMORY)),
      vm.getUint(FIELD_VCPUS).toString(),
      duration(vm.getUint(FIELD_SINCE_MS)),
      vm.getText(FIELD_REASON),
    ];
    out += fit(row(cells, widths), 79) + "\n";
  }
  return out;
}

function formatBalloon(value: Value): string {
  const balloon = value.get(FIELD_BALLOON)!;
  const target = balloon.getUint(FIELD_TARGET);
  const actual = balloon.getUint(FIELD_ACTUAL);
  if (target == value.getUint(FIELD_MEMORY) && actual == target) return "leaves it all";
  const held = balloon.getUint(FIELD_HELD);
  const back =
    held > 0 ? "; the host holds " + mib(held) + " back, down to " + mib(balloon.getUint(FIELD_FLOOR)) : "";
  return "leaves it " + mib(actual) + ", target " + mib(target) + back;
}

function formatShare(value: Value): string {
  const spec = value.get(FIELD_SPEC)!;
  let text = spec.getText(FIELD_SCHEDULING, SCHEDULING_SHARED);
  for (let i = 1; i < SHARE_FIELDS.length; i++) {
    const field = spec.get(SHARE_FIELDS[i]);
    if (field == null) continue;
    text += ", " + SHARE_FIELDS[i] + " ";
    text += field.kind == Kind.TEXT ? field.text : field.number.toString();
  }
  const cpus = value.getList(FIELD_CPUS);
  for (let i = 0; i < cpus.length; i++) text += (i == 0 ? "; on CPU " : ", ") + cpus[i].number.toString();
  if (cpus.length > 0) text += "; waited " + duration(value.getUint(FIELD_READY));
  const throttles = value.getUint(FIELD_THROTTLES);
  return throttles > 0 ? text + ", used up " + throttles.toString() + " times" : text;
}

/** On which nodes its memory is, where there are several. */
function formatNodes(value: Value): string {
  const nodes = value.getList(FIELD_NODES);
  let text = "";
  for (let i = 0; i < nodes.length; i++)
    text +=
      (i > 0 ? ", " : "") +
      mib(nodes[i].getUint(FIELD_MEMORY)) +
      " on node " +
      nodes[i].getUint(FIELD_NODE).toString();
  return text != "" ? line("NUMA", text) : "";
}

function formatShow(value: Value): string {
  const spec = value.get(FIELD_SPEC)!;
  const restart = spec.get(FIELD_RESTART)!;
  const overhead = value.get(FIELD_OVERHEAD)!;
  const counters = value.get(FIELD_COUNTERS)!;
  const policy = restart.getText(FIELD_POLICY);
  const limits =
    ", at most " +
    restart.getUint(FIELD_MAX).toString() +
    " in " +
    restart.getUint(FIELD_WINDOW).toString() +
    " s";
  let out =
    line("name", value.getText(FIELD_NAME)) +
    line("tenant", value.getText(FIELD_TENANT, TENANT_DEFAULT)) +
    line("tags", texts(value.getList(FIELD_TAGS))) +
    line("protected", value.getBool(FIELD_PROTECTED) ? "yes" : "no") +
    line("state", value.getText(FIELD_STATE) + " for " + duration(value.getUint(FIELD_SINCE_MS))) +
    line("reason", value.getText(FIELD_REASON)) +
    line("memory", mib(value.getUint(FIELD_MEMORY)) + ", " + mib(value.getUint(FIELD_MAPPED)) + " present") +
    formatNodes(value) +
    line("balloon", formatBalloon(value)) +
    line(
      "beside it",
      kib(overhead.getUint(FIELD_MODEL_BYTES)) +
        " device model, " +
        kib(overhead.getUint(FIELD_KERNEL_BYTES)) +
        " kernel",
    ) +
    line(
      "vCPUs",
      value.getUint(FIELD_VCPUS).toString() + ", ran " + duration(value.getUint(FIELD_RUNTIME_MS)),
    ) +
    line("scheduling", formatShare(value)) +
    line("kernel", spec.getText(FIELD_KERNEL)) +
    line("initrd", spec.getText(FIELD_INITRD)) +
    line("firmware", spec.getText(FIELD_FIRMWARE)) +
    line("cmdline", spec.getText(FIELD_CMDLINE)) +
    line(
      "restart",
      policy +
        (policy == POLICY_NEVER ? "" : limits) +
        "; was restarted " +
        counted(value.getUint(FIELD_RESTARTS), "time"),
    ) +
    line("last exit", value.getText(FIELD_LAST_EXIT)) +
    line(
      "exits",
      grouped(value.getUint(FIELD_EXITS)) +
        ", " +
        grouped(value.getUint(FIELD_FORWARDED)) +
        " to the device model; " +
        grouped(value.getUint(FIELD_INTERRUPTS)) +
        " interrupts",
    ) +
    formatRates(value);
  const ports = value.getList(FIELD_PORTS);
  for (let i = 0; i < ports.length; i++) out += formatPort(ports[i]);
  const devices = value.getList(FIELD_DEVICES);
  for (let i = 0; i < devices.length; i++) out += formatDevice(devices[i]);
  for (let i = 0; i < counters.keys.length; i++)
    out +=
      "  " + counters.keys[i].padEnd(30, " ") + grouped(counters.items[i].number).padStart(16, " ") + "\n";
  return out;
}

/** How often it exits, and what its device model did too often. */
function formatRates(value: Value): string {
  const rates = value.get(FIELD_RATES)!;
  const model = value.get(FIELD_MODEL)!;
  const exits =
    grouped(rates.getUint(FIELD_EXITS)) +
    " exits, " +
    grouped(rates.getUint(FIELD_IPIS)) +
    " IPIs, " +
    grouped(rates.getUint(FIELD_HYPERCALLS)) +
    " hypercalls of its device model";
  const throttled = model.getUint(FIELD_THROTTLED);
  const dropped = model.getUint(FIELD_LOG_DROPPED);
  const out = line("  a second", exits);
  if (throttled + dropped == 0) return out;
  const text =
    counted(throttled, "hypercall") + " had to wait, " + counted(dropped, "log line") + " left out";
  return out + line("braked", "its device model: " + text);
}

/** A port that nobody has open on either side cannot carry anything. */
function formatPort(port: Value): string {
  const here = port.getBool(FIELD_ATTACHED) ? ", attached to" : "";
  return line("port", port.getText(FIELD_NAME) + (port.getBool(FIELD_OPEN) ? ", open in the VM" : "") + here);
}

function formatDevice(device: Value): string {
  let text =
    counted(device.getUint(FIELD_REQUESTS), "request") +
    ", " +
    grouped(device.getUint(FIELD_BYTES_OUT)) +
    " bytes out, " +
    grouped(device.getUint(FIELD_BYTES_IN)) +
    " in";
  const network = device.getText(FIELD_NETWORK);
  if (network == "") return line(device.getText(FIELD_DEVICE), text);
  text = network + ", " + device.getText(FIELD_MAC) + ", link " + device.getText(FIELD_LINK);
  return (
    line("network", text) +
    line("  sent", traffic(device, FIELD_FRAMES_OUT, FIELD_BYTES_OUT, FIELD_DROPS_OUT)) +
    line("  received", traffic(device, FIELD_FRAMES_IN, FIELD_BYTES_IN, FIELD_DROPS_IN))
  );
}

function traffic(card: Value, frames: string, bytes: string, drops: string): string {
  return (
    counted(card.getUint(frames), "frame") +
    ", " +
    grouped(card.getUint(bytes)) +
    " bytes; " +
    grouped(card.getUint(drops)) +
    " dropped"
  );
}

function texts(list: Value[]): string {
  return list.map<string>((item: Value): string => item.text).join(", ");
}

/** What a tenant uses of a limit; 0 is none. */
function share(used: string, limit: string, isLimited: bool): string {
  return isLimited ? used + " of " + limit : used;
}

/** A tenant's VMs, vCPUs and memory, each with its limit. */
function tenantCells(tenant: Value): string[] {
  const used = tenant.get(FIELD_USED)!;
  const vms = tenant.getUint(FIELD_VMS);
  const vcpus = tenant.getUint(FIELD_VCPUS);
  const memory = tenant.getUint(FIELD_MEMORY);
  return [
    tenant.getText(FIELD_NAME),
    share(used.getUint(FIELD_VMS).toString(), vms.toString(), vms > 0),
    share(used.getUint(FIELD_VCPUS).toString(), vcpus.toString(), vcpus > 0),
    share(mib(used.getUint(FIELD_MEMORY)), mib(memory), memory > 0),
  ];
}

function formatTenants(value: Value): string {
  const tenants = value.getList(FIELD_TENANTS);
  const widths: i32[] = [28, 10, 10];
  let out = row(["NAME", "VMS", "VCPUS", "MEMORY"], widths) + "\n";
  for (let i = 0; i < tenants.length; i++) {
    const tenant = tenants[i];
    out += row(tenantCells(tenant), widths) + "\n";
    if (tenant.get(FIELD_CPUS) != null) out += "  on CPUs " + tenant.getText(FIELD_CPUS) + "\n";
    const denials = tenant.get(FIELD_DENIALS)!;
    let denied = "";
    for (let n = 0; n < denials.keys.length; n++)
      denied += (n > 0 ? ", " : "") + denials.keys[n] + " " + denials.items[n].number.toString();
    if (denied != "") out += "  denied: " + denied + "\n";
  }
  return out;
}

function formatTenantSet(tenant: Value): string {
  const cells = tenantCells(tenant);
  const cpus = tenant.get(FIELD_CPUS) != null ? ", on CPUs " + tenant.getText(FIELD_CPUS) : "";
  const text = " has VMs: " + cells[1] + ", vCPUs: " + cells[2] + ", memory: " + cells[3] + cpus + "\n";
  return 'tenant "' + cells[0] + '"' + text;
}

/** What may flow, and what forbids it. */
function formatPolicy(value: Value): string {
  const flows = value.getList(FIELD_FLOWS);
  let out = "";
  for (let i = 0; i < flows.length; i++) {
    const flow = flows[i];
    const verdict = flow.getBool(FIELD_ALLOWED) ? "allowed   " : "FORBIDDEN ";
    const ends =
      flow.getText(FIELD_ONE) + " " + flow.getText(FIELD_DIRECTION) + " " + flow.getText(FIELD_OTHER);
    out += verdict + flow.getText(FIELD_KIND).padEnd(11, " ") + ends + "\n";
    out += "          " + flow.getText(FIELD_TEXT) + ": " + flow.getText(FIELD_REASON) + "\n";
  }
  if (value.get(FIELD_NEXT) != null) return out; // the rest follows
  const forbidden = value.getUint(FIELD_FORBIDDEN);
  const pairs =
    value.get(FIELD_PAIRS) != null ? ", " + counted(value.getUint(FIELD_PAIRS), "pair") + " of tenants" : "";
  return (
    out + (forbidden == 0 ? "nothing forbidden" : counted(forbidden, "way") + " FORBIDDEN") + pairs + "\n"
  );
}

function formatImages(value: Value): string {
  const images = value.getList(FIELD_IMAGES);
  let out = row(["NAME", "SIZE"], [40]) + "\n";
  for (let i = 0; i < images.length; i++)
    out +=
      row(
        [fit(images[i].getText(FIELD_NAME), 40), grouped(images[i].getUint(FIELD_SIZE)) + " bytes"],
        [40, 20],
      ) + "\n";
  return out;
}

function formatDoctor(value: Value): string {
  const checks = value.getList(FIELD_CHECKS);
  let out = "";
  for (let i = 0; i < checks.length; i++)
    out += (checks[i].getBool(FIELD_OK) ? "ok    " : "LOOK  ") + checks[i].getText(FIELD_TEXT) + "\n";
  return out;
}

/** The CPU's flaws, and what is done at which switch. */
export function formatMitigations(value: Value): string {
  const flaws = value.getList(FIELD_FLAWS);
  const places = value.getList(FIELD_MITIGATIONS);
  let out = "";
  for (let i = 0; i < flaws.length; i++) {
    const mark = flaws[i].getBool(FIELD_OK) ? "" : "OPEN: ";
    out += line(
      i == 0 ? "flaws" : "",
      mark + flaws[i].getText(FIELD_NAME) + ": " + flaws[i].getText(FIELD_TEXT),
    );
  }
  for (let i = 0; i < places.length; i++) {
    const does = places[i].getText(FIELD_DOES);
    const text = places[i].getText(FIELD_KIND) + " (" + places[i].getText(FIELD_LEVEL) + "): ";
    out += line(i == 0 ? "mitigations" : "", text + (does != "" ? does : "nothing"));
    if (does != "") out += line("", "  cycles: " + places[i].getText(FIELD_COST));
  }
  return out;
}

function formatHardware(value: Value): string {
  const cpu = value.get(FIELD_CPU)!;
  const cpus = value.get(FIELD_CPUS)!;
  const firmware = value.get(FIELD_FIRMWARE)!;
  const iommu = value.get(FIELD_IOMMU)!;
  const nodes = value.getList(FIELD_NUMA);
  const missing = value.getList(FIELD_MISSING);
  const problems = value.getList(FIELD_PROBLEMS);
  let out =
    line("cpu", fit(cpu.getText(FIELD_NAME), 64)) +
    line(
      "",
      cpu.getText(FIELD_VENDOR) +
        " family " +
        cpu.getUint(FIELD_FAMILY).toString() +
        " model " +
        cpu.getUint(FIELD_MODEL).toString() +
        " stepping " +
        cpu.getUint(FIELD_STEPPING).toString(),
    ) +
    line(
      "CPUs",
      cpus.getUint(FIELD_RUNNING).toString() +
        " of " +
        max(cpus.getUint(FIELD_FOUND), cpus.getUint(FIELD_RUNNING)).toString() +
        " run",
    ) +
    wrapped("APIC ids", numbers(cpus.getList(FIELD_APIC_IDS))) +
    line("memory", mib(value.get(FIELD_MEMORY)!.getUint(FIELD_TOTAL))) +
    line(
      "firmware",
      firmware.getText(FIELD_KIND) +
        ", ACPI " +
        (firmware.getUint(FIELD_ACPI) > 0 ? "tables of " : "not found") +
        firmware.getText(FIELD_OEM) +
        " " +
        firmware.getText(FIELD_TABLE),
    ) +
    wrapped("tables", firmware.getList(FIELD_TABLES)) +
    line(
      "IOMMU",
      iommu.getText(FIELD_KIND) == ""
        ? "none"
        : iommu.getText(FIELD_KIND) +
            ", " +
            counted(iommu.getUint(FIELD_UNITS), "unit") +
            (iommu.getBool(FIELD_INTERRUPT_REMAPPING) ? ", remaps interrupts" : ""),
    ) +
    line("NUMA", counted(max<u64>(value.getUint(FIELD_NODES), 1), "node"));
  for (let i = 0; i < nodes.length; i++)
    out += line(
      "  node " + nodes[i].getUint(FIELD_NODE).toString(),
      counted(nodes[i].getUint(FIELD_CPUS), "CPU") +
        ", " +
        mib(nodes[i].getUint(FIELD_MEMORY)) +
        (nodes[i].get(FIELD_FREE) != null ? ", " + mib(nodes[i].getUint(FIELD_FREE)) + " free" : ""),
    );
  out += wrapped("has", value.getList(FIELD_FEATURES));
  for (let i = 0; i < missing.length; i++)
    out += line(
      i == 0 ? "lacks" : "",
      missing[i].getText(FIELD_NAME) + ": " + missing[i].getText(FIELD_COST),
    );
  for (let i = 0; i < problems.length; i++) out += line(i == 0 ? "problems" : "", problems[i].text);
  return out;
}

function numbers(list: Value[]): Value[] {
  const out: Value[] = [];
  for (let i = 0; i < list.length; i++) out.push(Value.string(list[i].number.toString()));
  return out;
}

/** A piece of the PCI devices. */
export function formatDevices(page: Value): string {
  const devices = page.getList(FIELD_DEVICES);
  let out = "";
  for (let i = 0; i < devices.length; i++)
    out += line(
      "PCI " + devices[i].getText(FIELD_AT),
      devices[i].getText(FIELD_ID) +
        "  " +
        devices[i].getText(FIELD_CLASS) +
        "  " +
        devices[i].getText(FIELD_TEXT),
    );
  return out;
}

/** One record of the audit log as one line. */
export function formatRecord(cbor: StaticArray<u8>): string {
  const record = decode(changetype<usize>(cbor), cbor.length);
  if (record == null) return "(a damaged record)\n";
  const object = record.getText(FIELD_OBJECT);
  const code = record.getUint(FIELD_CODE);
  return (
    stamp(record.getUint(FIELD_AT)) +
    "  " +
    record.getText(FIELD_WHO).padEnd(6, " ") +
    record.getText(FIELD_KIND).padEnd(18, " ") +
    (object != "" ? object + ": " : "") +
    (code > 0 ? "refused: " : "") +
    record.getText(FIELD_TEXT) +
    "\n"
  );
}

/** One event as one line. */
export function formatEvent(event: Value): string {
  const vm = event.getText(FIELD_VM);
  return (
    event.getUint(FIELD_SEQ).toString().padStart(5, " ") +
    " " +
    stamp(event.getUint(FIELD_AT)) +
    "  " +
    event.getText(FIELD_KIND).padEnd(18, " ") +
    (vm != "" ? vm + ": " : "") +
    event.getText(FIELD_TEXT) +
    "\n"
  );
}
