// plinth migrate, between two fake hosts: rounds, brakes, and every way in which it can fail.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { nextStep } from "../../control/cli/migrate/rounds";
import * as schema from "../../control/protocol/schema";
import { FakeHost } from "./fake-host";
import { type Result, runCli, startCli } from "./run-cli";
import { follow, waysOut, waysOutOfDeath } from "./ways-out";

interface World {
  here: FakeHost;
  there: FakeHost;
  migrate: (line?: string) => Promise<Result>;
  /** What the VM's memory holds now. */
  memory: (host: FakeHost) => string;
}

const test = suite<World>("migration");
const PAGES = 60;

test.before.each(async (context) => {
  const here = (context.here = await FakeHost.start());
  const there = (context.there = await FakeHost.start());
  there.snapshots.model = here.snapshots.model;
  here.add("a");
  here.snapshots.addVm("a", {
    memory: Array.from({ length: PAGES }, (_, n) => (n % 3 === 0 ? "" : `memory ${n}`)),
    model: ["model"],
    state: ["state"],
    image: ["image"],
  });
  context.migrate = (line = "a") => {
    const words = ["migrate", ...line.split(" "), "--to", there.path, "--timeout", "1s"];
    return runCli(here, words, { env: {} });
  };
  context.memory = (host) =>
    ["memory", "model", "state"]
      .map((kind) =>
        Buffer.concat(host.snapshots.vms.get("a")!.find((object) => object.kind === kind)!.pages),
      )
      .join();
});
test.after.each(async ({ here, there }) => {
  await here.stop();
  await there.stop();
});

/** The VM writes to `pages` of its memory each time that a snapshot of it is asked for, until it is paused. */
function writes(host: FakeHost, pages: number): void {
  let round = 0;
  host.snapshots.onAsk = (op) => {
    if (op !== schema.OP_SNAPSHOT_CREATE || host.vms.get("a")?.state !== "running") return;
    round++;
    for (let n = 0; n < pages; n++) host.snapshots.poke("a", "memory", n, `round ${round}, page ${n}`);
  };
}

/** Nothing of a migration is left but the VM itself. */
function isClean(...hosts: FakeHost[]): void {
  for (const host of hosts) assert.equal([...host.snapshots.all.keys()], []);
}

test("what it does next", () => {
  const round = (pages: number): { pages: number; ms: number } => ({ pages, ms: pages });
  assert.is(nextStep([round(1000)], 8, 0, 0), "last");
  assert.is(nextStep([round(1000)], 100, 100, 0), "last");
  assert.is(nextStep([round(1000)], 700, 100, 0), "again");
  assert.is(nextStep([round(1000)], 701, 100, 0), "brake");
  assert.is(nextStep([round(1000), round(400)], 300, 100, 0), "brake");
  assert.is(nextStep([round(1000), round(400)], 300, 100, 3), "last");
  assert.is(
    nextStep(
      Array.from({ length: 12 }, () => round(1000)),
      500,
      100,
      0,
    ),
    "last",
  );
});

test("a VM that writes little", async ({ here, there, migrate, memory }) => {
  writes(here, 2);
  const before = here.snapshots.vms.get("a")!;
  const { code, stderr } = await migrate();
  assert.is(code, 0, stderr);
  assert.match(stderr, /^a is on .*plinth.sock: 1\d\d KiB in \d rounds, it stood still for \d+ ms$/m);
  assert.is(here.vms.has("a"), false);
  assert.is(there.vms.get("a")!.state, "running");
  here.snapshots.vms.set("a", before);
  assert.is(memory(there), memory(here));
  isClean(here, there);
  // Zeros were not sent, and the image is there.
  const written = there.requests.filter(({ op }) => op === schema.OP_SNAPSHOT_WRITE);
  assert.ok(written.length < PAGES);
  assert.ok(!written.some(({ object }) => object === "image"));
  // It ran nowhere while it was paused here and not removed.
  const order = [...here.requests, ...there.requests].map(({ op }) => op);
  assert.ok(order.indexOf(schema.OP_PAUSE) >= 0);
});

test("a VM that writes as fast as is copied is slowed down, and is not afterwards", async ({
  here,
  there,
  migrate,
}) => {
  writes(here, 50);
  there.faults.takesMs = { [schema.OP_SNAPSHOT_WRITE]: 2 };
  const { code, stderr } = await migrate("a --downtime 1ms");
  assert.is(code, 0, stderr);
  assert.match(
    stderr,
    /a writes as fast as is copied: it gets 50 % of its CPUs for a while\n(.*\n)*?.* 20 %.*\n(.*\n)*?.* 5 %/,
  );
  assert.is(there.vms.get("a")!.state, "running");
  assert.is(there.vms.get("a")!.spec.cap, undefined);
});

test("a paused VM stays paused", async ({ here, there, migrate }) => {
  here.vms.get("a")!.state = "paused";
  assert.is((await migrate()).code, 0);
  assert.is(there.vms.get("a")!.state, "paused");
  assert.is(here.vms.has("a"), false);
});

test("what is refused before anything is copied", async ({ here, there, migrate }) => {
  there.snapshots.vendor = schema.VENDOR_AMD;
  const verdict = await migrate();
  assert.is(verdict.code, 7);
  assert.match(verdict.stderr, /a was not moved, and runs on here: .* it needs a CPU of intel/);
  there.snapshots.vendor = schema.VENDOR_INTEL;
  there.add("a");
  assert.match((await migrate()).stderr, /has a VM a already: it is running/);
  there.vms.delete("a");
  here.vms.get("a")!.state = "stopped";
  assert.match((await migrate()).stderr, /a is stopped: there is nothing to copy/);
  here.vms.get("a")!.state = "running";
  assert.is((await migrate("b")).code, 3);
  assert.is((await runCli(here, ["migrate", "a"])).code, 2);
  assert.is((await runCli(here, ["migrate", "a", "--to", here.path])).code, 2);
  assert.is((await runCli(here, ["migrate", "a", "--to", "/nowhere/x.sock"])).code, 5);
  isClean(here, there);
  assert.is(there.snapshots.asked[schema.OP_SNAPSHOT_WRITE], undefined);
});

test("--dry-run says what it would take, and leaves nothing", async ({ here, there, migrate }) => {
  const { code, stderr } = await migrate("a --dry-run");
  assert.is(code, 0, stderr);
  assert.match(stderr, /^a can go on on .*: up to \d+ KiB are copied, about \d/);
  isClean(here, there);
  assert.is(here.vms.get("a")!.state, "running");
  there.snapshots.features = [];
  assert.is((await migrate("a --dry-run")).code, 7);
  isClean(here, there);
});

test("whatever fails before the hand-over, the VM runs on here and nothing is left", async ({
  here,
  there,
  migrate,
}) => {
  const ops: [keyof World & ("here" | "there"), string, number][] = [
    ["here", schema.OP_SNAPSHOT_CREATE, 1],
    ["here", schema.OP_SNAPSHOT_CREATE, 2],
    ["here", schema.OP_SNAPSHOT_CREATE, 3],
    ["here", schema.OP_SNAPSHOT_SHOW, 1],
    ["here", schema.OP_SNAPSHOT_PAGES, 1],
    ["here", schema.OP_SNAPSHOT_HASH, 1],
    ["here", schema.OP_SNAPSHOT_READ, 1],
    ["here", schema.OP_SNAPSHOT_READ, 20],
    ["there", schema.OP_SNAPSHOT_BEGIN, 1],
    ["there", schema.OP_SNAPSHOT_BEGIN, 2],
    ["there", schema.OP_SNAPSHOT_WRITE, 1],
    ["there", schema.OP_SNAPSHOT_WRITE, 30],
    ["there", schema.OP_SNAPSHOT_HASH, 1],
    ["there", schema.OP_SNAPSHOT_END, 1],
    ["there", schema.OP_SNAPSHOT_RESTORE, 1],
  ];
  for (const [where, op, count] of ops) {
    const host = where === "here" ? here : there;
    for (const how of ["refuses", "is interrupted"]) {
      let left = count;
      host.snapshots.onAsk = (asked) => {
        if (asked !== op || --left !== 0) return;
        if (how === "is interrupted") process.emit("SIGINT");
        else throw { code: 1, message: "made to fail", object: "a", next: "doctor" };
      };
      const { code, stderr } = await migrate();
      host.snapshots.onAsk = () => undefined;
      const what = `${where} ${op} ${count} ${how}: ${stderr}`;
      if (code === 0) {
        // Ctrl-C that came too late.
        assert.is(how, "is interrupted", what);
        assert.ok([schema.OP_SNAPSHOT_RESTORE, schema.OP_SNAPSHOT_END].includes(op), what);
        assert.is(there.vms.get("a")!.state, "running", what);
        here.add("a");
        here.snapshots.vms.set("a", there.snapshots.vms.get("a")!);
        there.vms.delete("a");
        there.snapshots.vms.delete("a");
        continue;
      }
      assert.is(code, how === "refuses" ? 1 : 130, what);
      assert.match(stderr, /a was not moved, and runs on here: /, what);
      assert.is(here.vms.get("a")!.state, "running", what);
      assert.is(there.vms.has("a"), false, what);
      isClean(here, there);
    }
  }
});

test("a line that breaks: the VM here goes on, unless nobody knows", async ({ here, there, migrate }) => {
  for (const op of [
    schema.OP_SNAPSHOT_BEGIN,
    schema.OP_SNAPSHOT_WRITE,
    schema.OP_SNAPSHOT_END,
    schema.OP_SNAPSHOT_RESTORE,
  ]) {
    there.faults.hangUpOn = op;
    const { code, stderr } = await migrate();
    assert.is(code, 5, `${op}: ${stderr}`);
    assert.is(here.vms.get("a")!.state, "running", op);
    assert.is(there.vms.has("a"), false, op);
    there.faults.hangUpOn = "";
    there.snapshots.all.clear();
    here.snapshots.all.clear();
  }
});

test("an answer that is lost at the hand-over", async ({ here, there, migrate }) => {
  // It was restored there, but the answer does not come.
  there.snapshots.onVm = (name, state) => {
    there.add(name, state);
    there.hangUp();
  };
  assert.is((await migrate()).code, 0);
  assert.is(there.vms.get("a")!.state, "running");
  assert.is(here.vms.has("a"), false);
});

test("somebody resumes it here at the wrong moment: it is not given up", async ({ here, there, migrate }) => {
  there.snapshots.onVm = (name, state) => {
    there.add(name, state);
    here.vms.get("a")!.state = "running";
  };
  const { code, stderr } = await migrate();
  assert.is(code, 4);
  assert.match(stderr, /a was not moved, and runs on here: a is running/);
  assert.is(there.vms.has("a"), false);
  isClean(here, there);
});

/** Runs on: what a VM does there. */
function states(here: FakeHost, there: FakeHost): string {
  return [here, there].map((host) => host.vms.get("a")?.state ?? "gone").join(" ");
}

/**
 * Every request of a migration, in turn: `who` is lost there, or the tool is ended, before or after the host has done
 * it. Afterwards one VM runs, or does once what the tool said is done, never two, and nothing else is left.
 */
async function sweep(who: "here" | "there" | "tool", hosts: FakeHost[]): Promise<number> {
  let tried = 0;
  for (let at = 1; ; at++) {
    let isOver = false;
    for (const fate of ["lost", "unanswered"] as const)
      for (let way = 0, ways = 1; way < ways; way++) {
        const [here, there] = [await FakeHost.start(), await FakeHost.start()];
        hosts.push(here, there);
        there.snapshots.model = here.snapshots.model;
        here.add("a");
        const objects = { memory: ["one", "", "two"], model: ["model"], state: ["state"], image: ["image"] };
        here.snapshots.addVm("a", objects);
        let [count, both, said] = [0, 0, ""];
        let op = "";
        const heard = (host: FakeHost) => (asked: string) => {
          if (states(here, there) === "running running") both++;
          if (who !== "tool" && (who === "here" ? here : there) !== host) return undefined;
          if (++count !== at) return undefined;
          op = asked;
          if (who === "tool") {
            said = running.stderr();
            setImmediate(() => (here.cut(), there.cut()));
          }
          return fate;
        };
        here.onRequest = heard(here);
        there.onRequest = heard(there);
        const words = ["migrate", "a", "--to", there.path, "--timeout", "60ms"];
        const running = startCli(here, words, { env: {} });
        const { code, stderr } = await running.result;
        isOver = count < at;
        const what = `${who} ${fate} at request ${at}, ${op}, way ${way}: exit ${code}\n${stderr}`;
        here.onRequest = there.onRequest = () => undefined;
        here.isCut = there.isCut = false;
        const after = states(here, there);
        assert.is.not(after, "running running", what);
        const list = who === "tool" ? waysOutOfDeath(said) : waysOut(stderr);
        ways = list.length;
        if (!isOver) await follow(list[way]!, here, there, "1s");
        const settled = states(here, there);
        assert.ok(
          ["running gone", "gone running"].includes(settled),
          `${what}\n${after} -> ${list[way]} -> ${settled}`,
        );
        assert.is(both, 0, what);
        // Where the tool could say whether it was moved, it was right.
        if (who !== "tool" && code === 0) assert.is(settled, "gone running", what);
        assert.equal(
          [...here.snapshots.all.keys(), ...there.snapshots.all.keys()],
          [],
          `${what}\n${list[way]}`,
        );
        tried++;
      }
    for (const host of hosts.splice(0)) await host.stop();
    if (isOver) return tried;
  }
}

for (const who of ["here", "there", "tool"] as const)
  test(`${who === "tool" ? "the tool is ended" : `the host ${who} is lost`} at each request`, async () => {
    const hosts: FakeHost[] = [];
    try {
      assert.ok((await sweep(who, hosts)) > 20);
    } finally {
      for (const host of hosts) await host.stop();
    }
  });

test("the other host says no when the VM is to go on there: it is taken back", async ({
  here,
  there,
  migrate,
}) => {
  there.snapshots.onVm = (name) => void there.add(name, "crashed");
  const { code, stderr } = await migrate();
  assert.is(code, 4, stderr);
  assert.match(stderr, /a was not moved, and runs on here: cannot resume a: it is crashed/);
  assert.is(states(here, there), "running gone");
  isClean(here, there);
});

test("it never runs on both", async ({ here, there, migrate }) => {
  let both = 0;
  const watch = setInterval(() => {
    if (here.vms.get("a")?.state === "running" && there.vms.get("a")?.state === "running") both++;
  }, 1);
  there.faults.takesMs = { [schema.OP_SNAPSHOT_RESTORE]: 20, [schema.OP_RESUME]: 20 };
  here.faults.takesMs = { [schema.OP_RM]: 20, [schema.OP_PAUSE]: 20 };
  assert.is((await migrate()).code, 0);
  clearInterval(watch);
  assert.is(both, 0);
});

test.run();
