// What tenants may share, by the specification, and how often the policy has said no.

import { cpuList, MAX_CPUS_TEXT } from "../protocol/cpus";
import { MAX_RULE_TENANTS, MAX_RULES, SHARES, ShareRule } from "../protocol/rules";
import {
  DENIED_CACHES,
  DENIED_CORES,
  DENIED_HOOKS,
  DENIED_LIMITS,
  DENIED_NETWORKS,
  DENIED_PROTECTED,
  EVENT_POLICY_DENIED,
  FIELD_CPUS,
  FIELD_SHARE,
  FIELD_TENANTS,
  Specification,
} from "../protocol/schema";
import { emit } from "./events";
import { bad, checkFields, isName, namesToValue, readText } from "./spec";
import { quoted } from "./text";
import { Kind, Value } from "./value";
import { hostSave } from "./vms";

const RULE_FIELDS: string[] = [FIELD_TENANTS, FIELD_SHARE];

let rules: ShareRule[] = [];

export function rulesAll(): ShareRule[] {
  return rules;
}

export function rulesSet(list: ShareRule[]): void {
  rules = list;
}

export function rulesToValue(rules: ShareRule[] = rulesAll()): Value {
  const list = Value.list();
  for (let i = 0; i < rules.length; i++)
    list.add(
      Value.map()
        .put(FIELD_TENANTS, namesToValue(rules[i].tenants))
        .put(FIELD_SHARE, namesToValue(rules[i].share)),
    );
  return list;
}

/** A list of different words; what is wrong is told by bad(). */
function readWords(value: Value, field: string, least: i32, most: i32, what: string): string[] {
  const list = value.getList(field);
  const out: string[] = [];
  if (list.length < least || list.length > most)
    bad(
      field +
        what +
        " has " +
        list.length.toString() +
        " items, not " +
        least.toString() +
        " to " +
        most.toString(),
    );
  for (let i = 0; i < list.length; i++) {
    const word = list[i].kind == Kind.TEXT ? list[i].text : "";
    if (!isName(word) || out.includes(word))
      bad(field + "[" + i.toString() + "]" + what + " is no name, or there twice");
    out.push(word);
  }
  return out;
}

/** Reads a list of rules. What is wrong is told by bad(). */
export function readRules(list: Value | null): ShareRule[] {
  const out: ShareRule[] = [];
  if (list == null) return out;
  if (list.kind != Kind.LIST || list.items.length > MAX_RULES) {
    bad("rules is not a list of up to " + MAX_RULES.toString());
    return out;
  }
  for (let i = 0; i < list.items.length; i++) {
    const what = " in rules[" + i.toString() + "]";
    if (list.items[i].kind != Kind.MAP) {
      bad("rules[" + i.toString() + "] is not a map of tenants and share");
      continue;
    }
    checkFields(list.items[i], RULE_FIELDS, what);
    const rule = new ShareRule();
    rule.tenants = readWords(list.items[i], FIELD_TENANTS, 2, MAX_RULE_TENANTS, what);
    rule.share = readWords(list.items[i], FIELD_SHARE, 1, SHARES.length, what);
    for (let n = 0; n < rule.share.length; n++)
      if (!SHARES.includes(rule.share[n]))
        bad("share" + what + " has " + quoted(rule.share[n]) + ", which is none of " + SHARES.join(", "));
    out.push(rule);
  }
  return out;
}

/** Reads a set of CPUs: "0-3,6"; "" is all. */
export function readCpus(value: Value): string {
  const text = readText(value, FIELD_CPUS, MAX_CPUS_TEXT, "");
  if (text != "" && cpuList(text).length == 0)
    bad("cpus is " + quoted(text) + ", which is no set of CPUs like 0-3,6");
  return text;
}

/* --- denials --- */

const KINDS: string[] = [
  DENIED_LIMITS,
  DENIED_NETWORKS,
  DENIED_CORES,
  DENIED_CACHES,
  DENIED_PROTECTED,
  DENIED_HOOKS,
];
const MAX_COUNTED = Specification.MAX_TENANTS;
const denied: Map<string, StaticArray<u32>> = new Map();

/** The policy has denied a tenant something. */
export function policyDenied(tenant: string, kind: string, vm: string, text: string): void {
  emit(EVENT_POLICY_DENIED, vm, "denied (" + kind + "): " + text);
  const at = KINDS.indexOf(kind);
  if (at < 0 || (!denied.has(tenant) && denied.size >= MAX_COUNTED)) return;
  if (!denied.has(tenant)) denied.set(tenant, new StaticArray<u32>(KINDS.length));
  const counts = denied.get(tenant);
  counts[at]++;
  hostSave();
}

/** How often a tenant was denied each kind of thing; kinds that it was not are left out. */
export function denialsOf(tenant: string): Value {
  const out = Value.map();
  if (!denied.has(tenant)) return out;
  const counts = denied.get(tenant);
  for (let i = 0; i < KINDS.length; i++) if (counts[i] > 0) out.putUint(KINDS[i], counts[i]);
  return out;
}

/** All of them together. */
export function denialsTotal(): u64 {
  let total: u64 = 0;
  const all = denied.values();
  for (let i = 0; i < all.length; i++) for (let n = 0; n < KINDS.length; n++) total += all[i][n];
  return total;
}

/** For a successor: all counts of all tenants. */
export function denialsToValue(): Value {
  const out = Value.map();
  const names = denied.keys();
  for (let i = 0; i < names.length; i++) out.put(names[i], denialsOf(names[i]));
  return out;
}

/** Takes over a predecessor's. */
export function denialsRestore(value: Value | null): void {
  if (value == null || value.kind != Kind.MAP) return;
  for (let i = 0; i < value.keys.length && i < MAX_COUNTED; i++) {
    const counts = new StaticArray<u32>(KINDS.length);
    for (let n = 0; n < KINDS.length; n++) counts[n] = <u32>value.items[i].getUint(KINDS[n]);
    denied.set(value.keys[i], counts);
  }
}

/** Tenants that are gone are not counted any more. */
export function denialsKeep(tenants: string[]): void {
  const names = denied.keys();
  for (let i = 0; i < names.length; i++) if (!tenants.includes(names[i])) denied.delete(names[i]);
}
