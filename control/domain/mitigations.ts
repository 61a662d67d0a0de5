// What this CPU leaves behind for who runs on it next, and what the kernel is told to do against it.
//
// A flaw is there unless the CPU says that it is not: Intel SDM volume 4, IA32_ARCH_CAPABILITIES, and volume 2, "CPUID";
// AMD APM volume 3, leaves 0x80000008 and 0x80000021. What a flaw needs is done at each exit and entry (the kernel and the
// device model run between), between a tenant's VMs, or between tenants; the control domain is no VM's tenant.

import { Mitigation } from "../gen/abi";
import { hostCpuid, mitigate } from "../lib/binding";
import {
  FIELD_BETWEEN,
  FIELD_COST,
  FIELD_DOES,
  FIELD_EXITS,
  FIELD_FLAWS,
  FIELD_KIND,
  FIELD_LEVEL,
  FIELD_MITIGATIONS,
  FIELD_NAME,
  FIELD_OK,
  FIELD_TEXT,
  FIELD_WITHIN,
  LEVEL_ALL,
  LEVEL_NEEDED,
  LEVEL_OFF,
  LEVELS,
} from "../protocol/schema";
import { CpuModel, cpuVendor } from "./features";
import { info } from "./host";
import { bad, checkFields, readText } from "./spec";
import { quoted } from "./text";
import { Kind, Value } from "./value";

const regs: usize = memory.data(16, 16);
const FIELDS: string[] = [FIELD_BETWEEN, FIELD_WITHIN, FIELD_EXITS];
const PREDICTORS: u32 = Mitigation.IBPB | Mitigation.RSB;

/** How much is done at each kind of switch. */
export class Mitigations {
  between: string = LEVEL_NEEDED;
  within: string = LEVEL_NEEDED;
  exits: string = LEVEL_NEEDED;

  toValue(): Value {
    return Value.map()
      .putText(FIELD_BETWEEN, this.between)
      .putText(FIELD_WITHIN, this.within)
      .putText(FIELD_EXITS, this.exits);
  }

  /** For the planner. */
  get text(): string {
    return "between " + this.between + ", within " + this.within + ", exits " + this.exits;
  }
}

/** Reads what a specification says; what is wrong is told by bad(). */
export function readMitigations(value: Value | null): Mitigations {
  const out = new Mitigations();
  if (value == null) return out;
  if (value.kind != Kind.MAP) {
    bad("mitigations is not a map of between, within and exits");
    return out;
  }
  checkFields(value, FIELDS, " in mitigations");
  out.between = readLevel(value, FIELD_BETWEEN);
  out.within = readLevel(value, FIELD_WITHIN);
  out.exits = readLevel(value, FIELD_EXITS);
  return out;
}

function readLevel(value: Value, field: string): string {
  const level = readText(value, field, 20, LEVEL_NEEDED);
  if (!LEVELS.includes(level))
    bad("mitigations." + field + " is " + quoted(level) + ", it must be one of " + LEVELS.join(", "));
  return level;
}

/* --- the CPU --- */

/** A flaw, and what it needs. */
class Flaw {
  constructor(
    public name: string,
    public text: string,
    /** At each exit and entry. */
    public exits: u32,
    /** Between VMs of one tenant, and between others. */
    public switches: u32,
  ) {}

  get needs(): u32 {
    return this.exits | this.switches;
  }
}

function cpuid(leaf: u32, subleaf: u32, register: usize): u32 {
  const top: u32 = leaf & 0x80000000;
  if (hostCpuid(top, 0, regs) < 0 || load<u32>(regs) < leaf || hostCpuid(leaf, subleaf, regs) < 0) return 0;
  return load<u32>(regs + 4 * register);
}

const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/** A bit of IA32_ARCH_CAPABILITIES. */
function arch(bit: u32): bool {
  return ((info().arch_capabilities >> bit) & 1) != 0;
}

function injection(exits: bool): Flaw {
  const kernel = exits ? ", of the kernel too, which has no thunks" : "";
  const text = "what one guest teaches the branch predictor steers another" + kernel;
  return new Flaw("branch-injection", text, exits ? Mitigation.IBPB : 0, Mitigation.IBPB);
}

/** Where there is no IBPB, predictions are open anyway, and overwriting these would cost and not help. */
function returns(exits: bool): Flaw {
  const fill: u32 = info().mitigations & Mitigation.IBPB ? Mitigation.RSB : 0;
  const text = "returns go by what a guest has called";
  return new Flaw("return-prediction", text, exits ? fill : 0, fill);
}

function intelFlaws(out: Flaw[]): void {
  const enhanced = (cpuid(7, 0, EDX) & (1 << 26)) != 0 && arch(1);
  out.push(injection(!enhanced));
  out.push(returns(!enhanced || !arch(24) /* PBRSB_NO */));
  const apart = cpuid(7, 0, EAX) >= 2 && (cpuid(7, 2, EDX) & (1 << 4)) != 0; /* BHI_CTRL */
  if (enhanced && !apart && !arch(20) /* BHI_NO */)
    out.push(new Flaw("branch-history", "the history of branches steers the kernel", Mitigation.BHB, 0));
  if (!arch(0) /* RDCL_NO */ && !arch(3) /* SKIP_L1DFL_VMENTRY */)
    out.push(new Flaw("l1tf", "a guest reads what is in the level-1 data cache", 0, Mitigation.L1D));
  const mds = !arch(5); /* MDS_NO */
  const taa = !arch(8) /* TAA_NO */ && (cpuid(7, 0, EBX) & (1 << 11)) != 0; /* RTM */
  if (mds || taa)
    out.push(new Flaw(mds ? "mds" : "taa", "a guest reads from the CPU's buffers", Mitigation.VERW, 0));
  const stale = !(arch(13) && arch(14) && arch(15)); /* SBDR_SSDP_NO, FBSDP_NO, PSDP_NO */
  if (stale && arch(17) /* FB_CLEAR */)
    out.push(new Flaw("mmio-stale-data", "accesses to devices leave data behind", Mitigation.VERW, 0));
  if (arch(28) /* RFDS_CLEAR */)
    out.push(new Flaw("rfds", "a guest reads from register files", Mitigation.VERW, 0));
}

function amdFlaws(out: Flaw[]): void {
  const family = new CpuModel().family;
  const zen = family == 0x17 || family == 0x18;
  const more = cpuid(0x80000021, 0, EAX);
  const automatic = (more & (1 << 8)) != 0; /* automatic IBRS */
  const sizes = cpuid(0x80000008, 0, EBX);
  out.push(injection(!automatic));
  if (!automatic || (sizes & (1 << 30)) == 0 /* IBPB_RET */) out.push(returns(!automatic));
  if (zen && (sizes & (1 << 29)) == 0 /* BTC_NO */)
    out.push(new Flaw("btc", "any instruction may be taken for a branch", Mitigation.IBPB, Mitigation.IBPB));
  if ((zen || family == 0x19) && (more & (1 << 29)) == 0 /* SRSO_NO */)
    out.push(new Flaw("srso", "a guest overflows the stack of returns", Mitigation.IBPB, Mitigation.IBPB));
  const safe = (cpuid(0x80000021, 0, ECX) & 6) == 6; /* TSA_SQ_NO, TSA_L1_NO */
  if (family == 0x19 && !safe)
    out.push(new Flaw("tsa", "a guest reads from the CPU's queues", Mitigation.VERW, 0));
}

function flaws(): Flaw[] {
  const out: Flaw[] = [];
  const vendor = cpuVendor();
  if (vendor == "AuthenticAMD" || vendor == "HygonGenuine") amdFlaws(out);
  else intelFlaws(out);
  return out;
}

/* --- what is done --- */

let policy: Mitigations = new Mitigations();

export function mitigationsGet(): Mitigations {
  return policy;
}

/** Mitigation bits for a level, where `allowed` can be done. */
function bitsFor(level: string, needed: u32, allowed: u32): u32 {
  if (level == LEVEL_OFF) return 0;
  return (level == LEVEL_ALL ? allowed : needed) & allowed & info().mitigations;
}

/** What stands at each exit and entry, between a tenant's VMs, between others. */
class Table {
  exits: u32 = 0;
  within: u32 = 0;
  between: u32 = 0;

  constructor() {
    const found = flaws();
    let atExits: u32 = 0;
    let atSwitches: u32 = 0;
    for (let i = 0; i < found.length; i++) {
      atExits |= found[i].exits;
      atSwitches |= found[i].needs;
    }
    const all: u32 = PREDICTORS | Mitigation.BHB | Mitigation.L1D | Mitigation.VERW;
    this.exits = bitsFor(policy.exits, atExits, all & ~Mitigation.L1D);
    this.within = bitsFor(policy.within, atSwitches, all);
    this.between = bitsFor(policy.between, atSwitches, all);
  }
}

/** Sets the policy, and tells the kernel. */
export function mitigationsSet(wanted: Mitigations): void {
  policy = wanted;
  const table = new Table();
  mitigate(table.exits, table.within, table.between);
}

function names(bits: u32): string {
  const words: string[] = [];
  if (bits & Mitigation.IBPB) words.push("IBPB");
  if (bits & Mitigation.RSB) words.push("RSB fill");
  if (bits & Mitigation.BHB) words.push("BHB clearing");
  if (bits & Mitigation.L1D) words.push("L1D flush");
  if (bits & Mitigation.VERW) words.push("VERW");
  return words.join(", ");
}

/** What mitigations may cost, in cycles: our estimates, of which none was measured. */
function costs(bits: u32): string {
  const words: string[] = [];
  if (bits & Mitigation.IBPB) words.push("IBPB 1,000 to 10,000");
  if (bits & Mitigation.RSB) words.push("RSB fill 70");
  if (bits & Mitigation.BHB) words.push("BHB clearing 200");
  if (bits & Mitigation.L1D) words.push("L1D flush 1,000, and a cold cache");
  if (bits & Mitigation.VERW) words.push("VERW 50 to 500");
  return words.length > 0 ? words.join("; ") + " (estimates)" : "";
}

function placeToValue(kind: string, level: string, bits: u32): Value {
  return Value.map()
    .putText(FIELD_KIND, kind)
    .putText(FIELD_LEVEL, level)
    .putText(FIELD_DOES, names(bits))
    .putText(FIELD_COST, costs(bits));
}

/** What of a flaw's needs is not done; "": all is. */
function missing(flaw: Flaw, table: Table): string {
  const exits = flaw.exits & ~table.exits;
  const between = flaw.needs & ~(table.exits | (table.within & table.between));
  const lacks = names((exits | between) & ~info().mitigations);
  if (flaw.needs == 0) return "open as long as there is no IBPB";
  if (lacks != "") return "this CPU, or its microcode, has no " + lacks;
  if (exits != 0) return "no " + names(exits) + " at each exit: mitigations.exits is " + policy.exits;
  if (between == 0) return "";
  const levels = "mitigations.within is " + policy.within + ", between is " + policy.between;
  return "no " + names(between) + " between VMs: " + levels;
}

/** The result of `hardware.mitigations`. */
export function mitigationsResult(): Value {
  const table = new Table();
  const found = flaws();
  const list = Value.list();
  for (let i = 0; i < found.length; i++) {
    const lacks = missing(found[i], table);
    list.add(
      Value.map()
        .putText(FIELD_NAME, found[i].name)
        .putBool(FIELD_OK, lacks == "")
        .putText(FIELD_TEXT, found[i].text + ": " + (lacks != "" ? lacks : names(found[i].needs))),
    );
  }
  return Value.map()
    .put(FIELD_FLAWS, list)
    .put(
      FIELD_MITIGATIONS,
      Value.list()
        .add(placeToValue(FIELD_EXITS, policy.exits, table.exits))
        .add(placeToValue(FIELD_WITHIN, policy.within, table.within))
        .add(placeToValue(FIELD_BETWEEN, policy.between, table.between)),
    );
}

/** Names of the flaws against which not all is done that they need. */
export function openFlaws(): string[] {
  const table = new Table();
  const found = flaws();
  const out: string[] = [];
  for (let i = 0; i < found.length; i++) if (missing(found[i], table) != "") out.push(found[i].name);
  return out;
}
