// A migration between two hosts is ended at each of its phases: the program is killed, or a host. What the program has
// said is done then: the VM runs on one host, has missed nothing, and neither host has kept anything of it.

import { spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Client } from "../../control/cli/client";
import { FrameReader } from "../../control/protocol/node/frame";
import * as schema from "../../control/protocol/schema";
import { follow, waysOut, waysOutOfDeath } from "./ways-out";

/** A host that can be lost. */
export interface SweepHost {
  readonly path: string;
  readonly client: Client;
  stop(): Promise<void>;
}

/** Where it is done, and with which VM. */
export interface Sweep {
  name: string;
  /** A folder of its own. */
  folder: string;
  boot(n: number): Promise<SweepHost>;
  /** Makes the VM, which runs. */
  create(host: SweepHost, vm: string): Promise<void>;
  /** How far the VM there is; it is whole. */
  progress(host: SweepHost, vm: string): Promise<number>;
}

const VM = "walker";
const LIMIT = "60s";
const NAMES = ["one", "two"];

type Where = "here" | "there";
/** Whether the host has heard the request with which it ended. */
type Fate = "unheard" | "heard";

/** Where a migration is ended: at the request of this kind, so many of which came before. */
type Phase = [where: Where, op: string, nth: number];

const PHASES: Phase[] = [
  ["here", schema.OP_SHOW, 1],
  ["here", schema.OP_SNAPSHOT_CREATE, 1],
  ["there", schema.OP_SNAPSHOT_BEGIN, 1],
  ["there", schema.OP_SNAPSHOT_BEGIN, 2],
  ["here", schema.OP_SNAPSHOT_PAGES, 1],
  ["here", schema.OP_SNAPSHOT_HASH, 1],
  ["here", schema.OP_SNAPSHOT_READ, 20],
  ["there", schema.OP_SNAPSHOT_WRITE, 20],
  ["there", schema.OP_SNAPSHOT_HASH, 1],
  ["here", schema.OP_SNAPSHOT_CREATE, 2],
  ["here", schema.OP_SNAPSHOT_RM, 1],
  ["here", schema.OP_PAUSE, 1],
  ["here", schema.OP_SNAPSHOT_CREATE, 3],
  ["there", schema.OP_SNAPSHOT_END, 1],
  ["there", schema.OP_SNAPSHOT_RESTORE, 1],
  ["here", schema.OP_HANDOVER, 1],
  ["there", schema.OP_RESUME, 1],
  ["here", schema.OP_RM, 1],
  ["there", schema.OP_SNAPSHOT_RM, 1],
];

/** A way to a host on which the requests are seen. */
class Relay {
  /** Told of each request; what it returns is called once the request has been heard, or instead of that. */
  onRequest: (op: string) => { fate: Fate; act: () => void } | undefined = () => undefined;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  constructor(
    readonly path: string,
    host: () => SweepHost,
  ) {
    this.server = createServer((client) => this.accept(client, createConnection(host().path)));
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.server.listen(this.path, resolve));
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private accept(client: Socket, host: Socket): void {
    const reader = new FrameReader({
      message: (message) => this.see(String(message.op)),
      text: () => undefined,
    });
    for (const [socket, other] of [
      [client, host],
      [host, client],
    ] as const) {
      this.sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => (this.sockets.delete(socket), other.destroy()));
    }
    host.on("data", (bytes) => void client.write(bytes));
    client.on("data", (bytes) => {
      reader.feed(bytes);
      const due = this.due;
      this.due = undefined;
      if (due?.fate !== "unheard") host.write(bytes, () => due?.act());
      else due.act();
    });
  }

  private due: ReturnType<Relay["onRequest"]>;

  private see(op: string): void {
    this.due ??= this.onRequest(op);
  }
}

export function migrationSweep(sweep: Sweep): void {
  const test = suite(sweep.name);
  const hosts: SweepHost[] = [];
  const relays = NAMES.map((name, n) => new Relay(join(sweep.folder, `${name}.sock`), () => hosts[n]!));
  /** Free memory of each host without the VM. */
  const free: number[] = [];
  /** Which host has the VM. */
  let at = 0;

  async function boot(n: number): Promise<void> {
    hosts[n] = await sweep.boot(n);
    free[n] = await freeOf(n);
  }

  async function begin(n: number): Promise<void> {
    at = n;
    await sweep.create(hosts[n]!, VM);
    await goesOn(n, 0);
  }

  test.before(async () => {
    rmSync(sweep.folder, { recursive: true, force: true });
    mkdirSync(sweep.folder, { recursive: true });
    for (const n of [0, 1]) {
      await boot(n);
      await relays[n]!.listen();
    }
    await begin(0);
  });
  test.after(async () => {
    for (const relay of relays) relay.close();
    for (const host of hosts) await host.stop();
    rmSync(sweep.folder, { recursive: true, force: true });
  });

  async function goesOn(n: number, after: number): Promise<void> {
    const end = Date.now() + 60_000;
    while ((await sweep.progress(hosts[n]!, VM)) <= after)
      assert.ok(Date.now() < end, `${VM} does not go on beyond ${after}`);
  }

  async function stateOf(n: number): Promise<string | undefined> {
    return (await hosts[n]!.client.list()).find(({ name }) => name === VM)?.state;
  }

  async function freeOf(n: number): Promise<number> {
    return (await hosts[n]!.client.status()).memory.free;
  }

  /** How a migration went: whom it was ended by, and what it had said. */
  interface Ended {
    code: number | null;
    said: string;
    /** The request at which it was ended came. */
    reached: boolean;
  }

  /** Moves the VM away from `at`, and does `act` at a phase, with the process that moves it. */
  function migrate(phase: Phase, fate: Fate, act: (kill: () => void) => void): Promise<Ended> {
    const [where, op, nth] = phase;
    const [here, there] = [relays[at]!, relays[1 - at]!];
    const argv = ["migrate", VM, "--socket", here.path, "--to", there.path, "--timeout", "10s"];
    const child = spawn(process.execPath, [join("build", "plinth.cjs"), ...argv], {
      env: { HOME: sweep.folder },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let [said, count, reached] = ["", 0, false];
    child.stderr.on("data", (bytes: Buffer) => (said += bytes.toString()));
    (where === "here" ? here : there).onRequest = (asked) => {
      if (asked !== op || reached || ++count !== nth) return undefined;
      reached = true;
      return { fate, act: () => act(() => child.kill("SIGKILL")) };
    };
    return new Promise((resolve) =>
      child.on("close", (code) => {
        for (const relay of relays) relay.onRequest = () => undefined;
        resolve({ code, said, reached });
      }),
    );
  }

  /** Which hosts run the VM, after what was said is done. */
  async function running(...which: number[]): Promise<number[]> {
    const found = [];
    for (const n of which) if ((await stateOf(n)) === schema.STATE_RUNNING) found.push(n);
    return found;
  }

  /** Nothing is left but the VM, where it runs. */
  async function settled(what: string, after: number, ...which: number[]): Promise<void> {
    const where = await running(...which);
    assert.is(
      where.length,
      1,
      `${what}: it runs on ${where.map((n) => NAMES[n]).join(" and ") || "no host"}`,
    );
    at = where[0]!;
    for (const n of which) {
      assert.equal(await hosts[n]!.client.snapshots(), [], `${what}: snapshots of ${NAMES[n]}`);
      if (n === at) continue;
      assert.is(await stateOf(n), undefined, what);
      assert.is(await freeOf(n), free[n], `${what}: free memory of ${NAMES[n]}`);
    }
    await goesOn(at, after);
  }

  for (const phase of PHASES)
    for (const fate of ["unheard", "heard"] as const)
      test(`the program is killed when ${phase.join(" ")} is ${fate}`, async () => {
        const [here, there] = [hosts[at]!, hosts[1 - at]!];
        const after = await sweep.progress(here, VM);
        const { said, reached } = await migrate(phase, fate, (kill) => kill());
        assert.ok(reached, `there was no such request:\n${said}`);
        const both = await running(0, 1);
        assert.ok(both.length <= 1, said);
        const ways = waysOutOfDeath(said);
        // The first way is to finish, where there are two.
        await follow(ways[fate === "heard" ? 0 : ways.length - 1]!, here, there, LIMIT);
        await settled(said, after, 0, 1);
      });

  test("nothing has stayed", async () => {
    await hosts[at]!.client.remove(VM, true);
    assert.is(await freeOf(at), free[at]);
    for (const host of hosts) assert.is((await host.client.status()).controlRestarts, 0);
  });

  /** Ends one host at a phase; the migration says what happened, and what it says is done with what is left. */
  async function loseHost(
    lost: Where,
    phase: Phase,
  ): Promise<{ said: string; after: number; stays: number }> {
    await begin(0);
    const [here, there] = [hosts[0]!, hosts[1]!];
    const after = await sweep.progress(here, VM);
    const victim = lost === "here" ? here : there;
    let gone: Promise<void> = Promise.resolve();
    const { code, said, reached } = await migrate(
      phase,
      lost === phase[0] ? "unheard" : "heard",
      () => (gone = victim.stop()),
    );
    await gone;
    assert.ok(reached && code !== null, `it did not end by itself: ${said}`);
    const ways = waysOut(said);
    await follow(ways[lost === "there" ? ways.length - 1 : 0]!, here, there, "2s");
    return { said, after, stays: lost === "here" ? 1 : 0 };
  }

  test("the host that it leaves is lost while it copies: nothing of it is on the other", async () => {
    const { said, stays } = await loseHost("here", ["here", schema.OP_SNAPSHOT_READ, 20]);
    assert.match(said, new RegExp(`${VM} was not moved`));
    assert.is(await stateOf(stays), undefined);
    assert.equal(await hosts[stays]!.client.snapshots(), []);
    assert.is(await freeOf(stays), free[stays]);
    await boot(0);
  });

  test("the host that it leaves is lost when it has been given up: it runs on the other", async () => {
    const { said, after, stays } = await loseHost("here", ["there", schema.OP_RESUME, 1]);
    await settled(said, after, stays);
    await hosts[1]!.client.remove(VM, true);
    await boot(0);
  });

  for (const op of [schema.OP_SNAPSHOT_WRITE, schema.OP_SNAPSHOT_RESTORE, schema.OP_RESUME])
    test(`the host to which it goes is lost at ${op}: it runs on where it was`, async () => {
      const { said, after, stays } = await loseHost("there", ["there", op, 1]);
      await settled(said, after, stays);
      await hosts[0]!.client.remove(VM, true);
      assert.is(await freeOf(0), free[0]);
      await boot(1);
    });

  test.run();
}
