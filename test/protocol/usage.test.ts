// What `top` computes: shares that add up, nothing below zero, whatever the counters say.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { tenths, usageBetween, UsageSample, UsageVm, type UsageView } from "../../control/protocol/usage";
import { Random } from "../cli/random";

const SECOND = 1_000_000;

function sample(time: number, idle: number, vms: Partial<UsageVm>[], cpus = 1): UsageSample {
  const out = new UsageSample();
  Object.assign(out, { time, idle, cpus });
  for (const vm of vms) out.vms.push(Object.assign(new UsageVm(vm.name ?? "a"), { at: time, ...vm }));
  return out;
}

function numbersOf(view: UsageView): number[] {
  const rows = [...view.rows, ...view.tenants];
  return [
    ...[view.interval, view.vms, view.models, view.host, view.idle],
    ...rows.flatMap((row) => [row.run, row.ready, row.model, row.exits, ...row.rates]),
  ];
}

test("shares and rates between two samples", () => {
  const before = sample(10 * SECOND, 5 * SECOND, [
    { run: 100, ready: 0, model: 50, exits: 1000, reasons: ["hlt", "io"], counts: [600, 400] },
  ]);
  const vm = {
    run: 100 + 0.5 * SECOND,
    ready: 0.25 * SECOND,
    model: 50 + 0.1 * SECOND,
    exits: 1300,
    reasons: ["cpuid", "hlt", "io", "wrmsr", "hlt-rare"],
    counts: [40, 800, 430, 31, 1],
  };
  const view = usageBetween(before, sample(12 * SECOND, 6 * SECOND, [vm]));
  assert.is(view.interval, 2 * SECOND);
  assert.equal([view.vms, view.models, view.host, view.idle], [250, 50, 200, 500]);
  const [row] = view.rows;
  assert.equal([row!.run, row!.ready, row!.model, row!.exits], [250, 125, 50, 150]);
  assert.equal(row!.reasons, ["hlt", "cpuid", "io"]);
  assert.equal(row!.rates, [100, 20, 15]);
  assert.is(tenths(row!.run), "25.0");
});

test("tenants are the sums of their VMs", () => {
  const after = sample(
    SECOND,
    0,
    [
      { name: "a", tenant: "red", run: 0.2 * SECOND, memory: 3, vcpus: 2 },
      { name: "b", tenant: "blue", run: 0.3 * SECOND },
      { name: "c", tenant: "red", run: 0.4 * SECOND, memory: 4 },
    ],
    2,
  );
  const { tenants } = usageBetween(new UsageSample(), after);
  assert.equal(
    tenants.map(({ name, vms, vcpus, memory, run }) => [name, vms, vcpus, memory, run]),
    [
      ["red", 2, 3, 7, 600],
      ["blue", 1, 1, 0, 300],
    ],
  );
});

test("a VM that was started again, or is new, counts from its start", () => {
  const before = sample(0, 0, [{ name: "a", run: 900_000, starts: 1, exits: 50 }]);
  const again = { name: "a", run: 100_000, starts: 2, exits: 10 };
  const view = usageBetween(before, sample(SECOND, 0, [again, { name: "b", run: 200_000 }]));
  assert.equal(
    view.rows.map((row) => [row.run, row.exits]),
    [
      [100, 10],
      [200, 0],
    ],
  );
});

test("two equal samples, and one of no time, are nothing", () => {
  const one = sample(SECOND, 10, [{ run: 5, exits: 7, reasons: ["hlt"], counts: [7] }]);
  for (const number of numbersOf(usageBetween(one, one))) assert.is(number, 0);
});

test("whatever counters do, nothing is negative, no VM has more than its vCPUs, and all is the whole", () => {
  const random = new Random(11);
  const any = (limit: number): number => random.below(limit);
  let before = new UsageSample();
  for (let round = 0; round < 3000; round++) {
    const cpus = 1 + any(4);
    const after = sample(
      any(4) === 0 ? any(1e9) : before.time + any(3 * SECOND),
      before.idle + any(8 * SECOND) - any(SECOND),
      Array.from({ length: any(5) }, (_, n) => ({
        name: `vm${n}`,
        tenant: `t${any(2)}`,
        vcpus: 1 + any(4),
        starts: any(2),
        run: any(1e9),
        ready: any(1e9),
        model: any(1e9),
        exits: any(1e9),
        reasons: ["hlt", "io", "cpuid", "rdmsr", "wrmsr"].slice(any(5)),
        counts: Array.from({ length: 5 }, () => any(1e6)),
      })),
      cpus,
    );
    const view = usageBetween(before, after);
    for (const number of numbersOf(view)) assert.ok(Number.isSafeInteger(number) && number >= 0, `${number}`);
    for (const row of view.rows) assert.ok(row.run <= 1000 * row.vcpus && row.model <= 1000);
    const whole = view.vms + view.models + view.host + view.idle;
    assert.ok(whole === 1000 || (whole === 0 && view.interval === 0), `${whole}`);
    for (const key of ["run", "ready", "model", "exits"] as const) {
      const sum = (rows: typeof view.rows): number => rows.reduce((all, row) => all + row[key], 0);
      assert.is(sum(view.rows), sum(view.tenants));
    }
    before = after;
  }
});

test.run();
