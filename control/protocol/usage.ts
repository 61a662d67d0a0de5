/*
 * What `top` shows: from two samples of counters that only grow to shares of CPUs and rates between them.
 *
 * One source for the shell (AssemblyScript) and for the tool (Node), in the subset that asc, esbuild and tsc all accept;
 * portable.d.ts tells tsc of i32 and i64. Times are microseconds, shares are tenths of a percent.
 */

import { TENANT_DEFAULT } from "./schema";

const SECOND: i64 = 1000000;
const WHOLE: i64 = 1000;
/** Exit reasons that a row names. */
const MOST: i32 = 3;

/** The counters of one VM at one time. */
export class UsageVm {
  tenant: string = TENANT_DEFAULT;
  state: string = "";
  vcpus: i32 = 1;
  memory: i64 = 0;
  /** How often it was started: then its counters begin anew. */
  starts: i64 = 0;
  /** When its counters were read. */
  at: i64 = 0;
  run: i64 = 0;
  /** Ready to run, while others did. */
  ready: i64 = 0;
  /** Its device model's run time. */
  model: i64 = 0;
  exits: i64 = 0;
  reasons: string[] = [];
  counts: i64[] = [];

  constructor(public name: string) {}
}

/** The counters of a host at one time. */
export class UsageSample {
  time: i64 = 0;
  /** Of all CPUs. */
  idle: i64 = 0;
  cpus: i32 = 1;
  vms: UsageVm[] = [];
}

/** What a VM or a tenant used between two samples; shares are of one CPU, `exits` and `rates` per second. */
export class UsageRow {
  tenant: string = TENANT_DEFAULT;
  state: string = "";
  vms: i32 = 1;
  vcpus: i32 = 0;
  memory: i64 = 0;
  run: i64 = 0;
  ready: i64 = 0;
  model: i64 = 0;
  exits: i64 = 0;
  reasons: string[] = [];
  rates: i64[] = [];

  constructor(public name: string) {}
}

/** A host between two samples. The four shares are of all CPUs and are the whole together. */
export class UsageView {
  interval: i64 = 0;
  vms: i64 = 0;
  models: i64 = 0;
  /** The rest: the control domain and the kernel. */
  host: i64 = 0;
  idle: i64 = 0;
  rows: UsageRow[] = [];
  tenants: UsageRow[] = [];
}

/** An item that is there: its index was checked. */
function item<T>(list: T[], index: i32): T {
  return list[index] as T;
}

function least(a: i64, b: i64): i64 {
  return a < b ? a : b;
}

/** How much a counter has grown; one that begins anew has not gone back. */
function growth(before: i64, after: i64): i64 {
  return after > before ? after - before : 0;
}

/** part * scale / whole, rounded down; 0 of nothing. */
function scaled(part: i64, scale: i64, whole: i64): i64 {
  if (whole <= 0) return 0;
  const product: i64 = part * scale;
  return (product - (product % whole)) / whole;
}

function findBefore(sample: UsageSample, vm: UsageVm): UsageVm {
  for (let i = 0; i < sample.vms.length; i++) {
    const old = item(sample.vms, i);
    if (old.name == vm.name && old.starts == vm.starts) return old;
  }
  const none = new UsageVm(vm.name);
  none.at = sample.time;
  return none;
}

function countBefore(vm: UsageVm, reason: string): i64 {
  const at = vm.reasons.indexOf(reason);
  return at < 0 ? 0 : item(vm.counts, at);
}

/** Puts the reasons that come most into a row, the most frequent first. */
function addReasons(row: UsageRow, before: UsageVm, vm: UsageVm, interval: i64): void {
  for (let i = 0; i < vm.reasons.length; i++) {
    const reason = item(vm.reasons, i);
    const rate = scaled(growth(countBefore(before, reason), item(vm.counts, i)), SECOND, interval);
    let place: i32 = row.rates.length;
    while (place > 0 && item(row.rates, place - 1) < rate) place--;
    if (rate == 0 || place >= MOST) continue;
    // An insertion that both languages know.
    row.rates.push(rate);
    row.reasons.push(reason);
    for (let n: i32 = row.rates.length - 1; n > place; n--) {
      row.rates[n] = item(row.rates, n - 1);
      row.reasons[n] = item(row.reasons, n - 1);
    }
    row.rates[place] = rate;
    row.reasons[place] = reason;
    if (row.rates.length > MOST) {
      row.rates.pop();
      row.reasons.pop();
    }
  }
}

function addToTenant(list: UsageRow[], row: UsageRow): void {
  let sum: UsageRow | null = null;
  for (let i = 0; i < list.length; i++) if (item(list, i).name == row.tenant) sum = item(list, i);
  if (sum == null) {
    sum = new UsageRow(row.tenant);
    sum.tenant = row.tenant;
    sum.vms = 0;
    list.push(sum);
  }
  sum.vms++;
  sum.vcpus += row.vcpus;
  sum.memory += row.memory;
  sum.run += row.run;
  sum.ready += row.ready;
  sum.model += row.model;
  sum.exits += row.exits;
}

/** What was used from one sample to a later one; without an earlier one (an empty sample) since the host's start. */
export function usageBetween(before: UsageSample, after: UsageSample): UsageView {
  const view = new UsageView();
  view.interval = growth(before.time, after.time);
  let run: i64 = 0;
  let model: i64 = 0;
  for (let i = 0; i < after.vms.length; i++) {
    const vm = item(after.vms, i);
    const old = findBefore(before, vm);
    const interval = growth(old.at, vm.at);
    const ran = least(growth(old.run, vm.run), interval * vm.vcpus);
    const waited = least(growth(old.ready, vm.ready), interval * vm.vcpus);
    const modelled = least(growth(old.model, vm.model), interval);
    run += ran;
    model += modelled;
    const row = new UsageRow(vm.name);
    row.tenant = vm.tenant;
    row.state = vm.state;
    row.vcpus = vm.vcpus;
    row.memory = vm.memory;
    row.run = scaled(ran, WHOLE, interval);
    row.ready = scaled(waited, WHOLE, interval);
    row.model = scaled(modelled, WHOLE, interval);
    row.exits = scaled(growth(old.exits, vm.exits), SECOND, interval);
    addReasons(row, old, vm, interval);
    view.rows.push(row);
    addToTenant(view.tenants, row);
  }
  const idle = growth(before.idle, after.idle);
  // Counters are read one after the other: they may say a little more than there was.
  const counted: i64 = run + model + idle;
  const capacity: i64 = view.interval * after.cpus;
  const whole = counted > capacity ? counted : capacity;
  if (whole <= 0) return view;
  view.vms = scaled(run, WHOLE, whole);
  view.models = scaled(model, WHOLE, whole);
  view.idle = scaled(idle, WHOLE, whole);
  view.host = WHOLE - view.vms - view.models - view.idle;
  return view;
}

/** Tenths of a percent: "12.5". */
export function tenths(value: i64): string {
  const rest: i64 = value % 10;
  return ((value - rest) / 10).toString() + "." + rest.toString();
}
