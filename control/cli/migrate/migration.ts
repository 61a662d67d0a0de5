// Moves a running VM to another host. Until the other host has all of it, whatever fails leaves the VM running here;
// the VM here is given up before the one there may run, so they never both do.
//
//   check -> copy, round by round -> pause -> the rest -> [there: paused] -> [here: moved] -> [there: resumed] -> [here: removed]
//            any failure: take back all of it                           | the host there says no: take back;
//                                                                       | it is lost: a person has to say which

import { randomInt } from "node:crypto";
import * as schema from "../../protocol/schema";
import { ErrorCode, PlinthError, toPlinthError } from "../errors";
import { oneLine, type Output } from "../output";
import { Transfer } from "../progress";
import { hostDocument, type SnapshotDocument } from "../snapshot/document";
import { Interrupt } from "../snapshot/interrupt";
import { PAGE_SIZE } from "../snapshot/page-map";
import { copyPages, countPages, findRanges, type ObjectRange, type Route, withoutZeros } from "./copy";
import { isLost, type Peer } from "./peer";
import { BRAKES, nextStep, type Round } from "./rounds";

export interface MigrationOptions {
  vm: string;
  from: Peer;
  to: Peer;
  out: Output;
  /** Milliseconds for which the VM may stand still, if it can be had. */
  downtime: number;
}

export interface Migrated {
  vm: string;
  rounds: Round[];
  bytes: number;
  /** How long it stood still. */
  pauseMs: number;
  /** Commands for what could not be cleared away. */
  left: string[];
}

/** What it would take. */
export interface Forecast {
  vm: string;
  bytes: number;
  ms: number;
}

/** Percent of a CPU for each vCPU: all of it. */
const UNCAPPED = 100;
/** Pages that are read to know how fast the line is. */
const PROBE = 16;

/** One snapshot of the VM here, of which the other host has, or will have, all pages. */
interface Step {
  name: string;
  document: SnapshotDocument;
}

export class Migration {
  private readonly options: MigrationOptions;
  private readonly id = randomInt(2 ** 24)
    .toString(16)
    .padStart(6, "0");
  /** Snapshots that were made here, in their order. */
  private readonly steps: Step[] = [];
  private readonly rounds: Round[] = [];
  private readonly interrupt = new Interrupt();
  private made = 0;
  private hasBegun = false;
  private hasPaused = false;
  private pausedAt = 0;
  private brakes = 0;
  private cap: number | undefined;
  private wasRunning = true;
  private isProtected = false;
  private isDry = false;
  /** Commands for what could not be taken back or cleared away. */
  private readonly left: string[] = [];

  constructor(options: MigrationOptions) {
    this.options = options;
  }

  /** Only looks: whether the other host could take it, and how long it would last. */
  async forecast(): Promise<Forecast> {
    const { vm, from } = this.options;
    this.isDry = true;
    try {
      const { name, document } = await this.check();
      const ranges = await findRanges(from.client, name, document.objects);
      const start = Date.now();
      const some = ranges.flatMap(({ kind, first, count }) =>
        Array.from({ length: Math.min(count, PROBE) }, (_, n) => ({ kind, page: first + n })),
      );
      const probe = some.slice(0, PROBE);
      for (const { kind, page } of probe) await from.client.readSnapshot(name, kind, page);
      const pages = countPages(ranges);
      return { vm, bytes: pages * PAGE_SIZE, ms: (pages * (Date.now() - start)) / Math.max(1, probe.length) };
    } finally {
      this.interrupt.stop();
      await this.dropSteps();
    }
  }

  async run(): Promise<Migrated> {
    try {
      await this.copyAll().catch((error) => this.takeBack(error));
      await this.handOver();
    } finally {
      this.interrupt.stop();
    }
    const { vm, from } = this.options;
    const pauseMs = this.wasRunning ? Date.now() - this.pausedAt : 0;
    // Not to be taken back any more: what is said before that holds until here.
    this.say(this.rmHere, ...this.rmSnapshots);
    await this.attempt(this.rmHere, () => from.insist((client) => client.remove(vm, true, true)));
    await this.dropSteps();
    // The VM there shares its pages with the snapshot, which nobody needs any more.
    await this.dropIncoming();
    const pages = this.rounds.reduce((sum, round) => sum + round.pages, 0);
    return { vm, rounds: this.rounds, bytes: pages * PAGE_SIZE, pauseMs, left: this.left };
  }

  /** The command that removes the VM here, whatever it is. */
  private get rmHere(): string {
    return `plinth rm ${this.options.vm} --force${this.isProtected ? " --protected" : ""}`;
  }

  private get rmThere(): string {
    return `${this.rmHere}, on ${this.options.to.text}`;
  }

  /** Does what may be done twice; what fails is left to do. What is not there any more was done. */
  private async attempt(command: string, act: () => Promise<unknown>): Promise<void> {
    await act().catch((problem: unknown) => {
      if (toPlinthError(problem).code !== ErrorCode.NOT_FOUND) this.left.push(command);
    });
  }

  private dropIncoming(): Promise<void> {
    const { to } = this.options;
    return this.attempt(`plinth snapshot rm ${this.incoming}, on ${to.text}`, () =>
      to.insist((client) => client.removeSnapshot(this.incoming)),
    );
  }

  private get incoming(): string {
    return `moving-${this.id}`;
  }

  /** The first snapshot, and the other host's verdict on it. */
  private async check(): Promise<Step> {
    const { vm, from, to } = this.options;
    const there = await to.stateOf(vm);
    if (there !== undefined)
      throw wrongState(
        vm,
        `${to.text} has a VM ${vm} already: it is ${oneLine(there)}`,
        `plinth rm ${vm}, on ${to.text}`,
      );
    const details = await from.client.show(vm);
    this.wasRunning = details.state === schema.STATE_RUNNING;
    if (!this.wasRunning && details.state !== schema.STATE_PAUSED)
      throw wrongState(
        vm,
        `${vm} is ${oneLine(details.state)}: there is nothing to copy but its specification`,
        "plinth export",
      );
    this.cap = details.spec.cap;
    this.isProtected = details.spec.protected === true;
    if (!this.isDry) this.say(...this.rmSnapshots);
    const step = await this.takeSnapshot();
    await to.client.checkSnapshot(step.document.raw);
    return step;
  }

  private async takeSnapshot(): Promise<Step> {
    const { vm, from } = this.options;
    // There are two at most, so two names do: whoever finds them knows which.
    const name = `${this.incoming}-${(this.made++ % 2) + 1}`;
    const known = { name, document: undefined as unknown as SnapshotDocument };
    // Noted before it is made: if the answer is lost, it is removed all the same.
    this.steps.push(known);
    await from.client.createSnapshot(vm, { name, note: `plinth migrate ${vm}` });
    known.document = hostDocument(name, await from.client.showSnapshot(name));
    return known;
  }

  private async copyAll(): Promise<void> {
    const { to, vm, from, downtime } = this.options;
    const first = await this.check();
    this.hasBegun = true;
    const needs = await to.client.beginSnapshot({ ...first.document.raw, name: this.incoming });
    const objects = first.document.objects.filter(({ kind }) => needs.includes(kind));
    const all = await findRanges(from.client, first.name, objects);
    await this.copyRound(await this.skipZeros(this.route(first.name), all));
    for (;;) {
      const dirty = await this.dirtyNow(objects);
      const step = this.wasRunning ? nextStep(this.rounds, countPages(dirty), downtime, this.brakes) : "last";
      if (step === "brake") await this.brake();
      await this.copyRound(dirty);
      if (step === "last") break;
    }
    this.stopIfAsked();
    if (this.wasRunning) {
      this.say(`plinth resume ${vm}`, ...this.faster, ...this.rmSnapshots);
      this.hasPaused = true;
      await from.client.pause(vm);
    }
    this.pausedAt = Date.now();
    await this.copyRound(await this.dirtyNow(objects));
    await to.client.endSnapshot(this.incoming);
    this.stopIfAsked();
  }

  /** Tells, before it matters, what a person has to do if this program does not come to its end. */
  private say(...commands: string[]): void {
    const { vm, out } = this.options;
    out.talk(`moving ${vm}; if this program is ended now: ${commands.join("; ")}`);
  }

  private route(name: string): Route {
    const { from, to } = this.options;
    return { from: from.client, to: to.client, name, incoming: this.incoming };
  }

  /** A new snapshot, and where it differs from the one before, which is dropped. */
  private async dirtyNow(objects: SnapshotDocument["objects"]): Promise<ObjectRange[]> {
    const { from } = this.options;
    const before = this.steps[this.steps.length - 1]!;
    const now = await this.takeSnapshot();
    const ranges = await findRanges(from.client, now.name, objects, before.name);
    await from.client.removeSnapshot(before.name);
    this.steps.splice(this.steps.indexOf(before), 1);
    return ranges;
  }

  private async skipZeros(route: Route, ranges: readonly ObjectRange[]): Promise<ObjectRange[]> {
    const { out, vm } = this.options;
    const transfer = new Transfer(out, `looking at ${vm}`, countPages(ranges) * PAGE_SIZE);
    try {
      return await withoutZeros(route, ranges, (pages) => {
        transfer.add(pages * PAGE_SIZE);
        this.stopIfAsked();
      });
    } finally {
      transfer.end();
    }
  }

  /** Copies what the newest snapshot has there. */
  private async copyRound(ranges: readonly ObjectRange[]): Promise<void> {
    const { out, vm } = this.options;
    const pages = countPages(ranges);
    const transfer = new Transfer(out, `copying ${vm}, round ${this.rounds.length + 1}`, pages * PAGE_SIZE);
    const start = Date.now();
    try {
      await copyPages(this.route(this.steps[this.steps.length - 1]!.name), ranges, (done) => {
        transfer.add(done * PAGE_SIZE);
        this.stopIfAsked();
      });
    } finally {
      transfer.end();
    }
    this.rounds.push({ pages, ms: Date.now() - start });
  }

  /** The VM writes faster than is copied: it gets less of the CPUs until it is there. */
  private async brake(): Promise<void> {
    const { vm, from, out } = this.options;
    const cap = BRAKES[this.brakes++]!;
    if (this.cap !== undefined && this.cap <= cap) return;
    try {
      await from.client.set(vm, { cap });
      out.talk(`${vm} writes as fast as is copied: it gets ${cap} % of its CPUs for a while`);
      this.say(...this.faster, ...this.rmSnapshots);
    } catch (error) {
      if (isLost(error)) throw error;
      // One with CPUs of its own cannot be slowed down: it stands still for longer.
      this.brakes = BRAKES.length;
    }
  }

  /** It failed, and the VM goes on here. */
  private async takeBack(error: unknown): Promise<never> {
    const { vm, from } = this.options;
    const cause = toPlinthError(error);
    if (this.hasPaused)
      await this.attempt(`plinth resume ${vm} --force`, () =>
        from.insist(async (client) => {
          const row = (await client.list()).find(({ name }) => name === vm);
          if (row?.state === schema.STATE_PAUSED || row?.state === schema.STATE_MOVED)
            await client.resume(vm, true);
        }),
      );
    for (const command of this.faster) await this.attempt(command, () => this.restoreCap());
    await this.dropSteps();
    if (this.hasBegun) await this.dropIncoming();
    const { left } = this;
    const rest = left.length > 0 ? `; left to do: ${left.join("; ")}` : "";
    const state = this.hasPaused || this.wasRunning ? "runs on here" : "is here as it was";
    throw new PlinthError({
      code: cause.code,
      message: `${vm} ${left.length > 0 ? "was not moved" : `was not moved, and ${state}`}: ${cause.message}${rest}`,
      object: vm,
      next: left.length > 0 ? `plinth show ${vm}` : cause.next,
    });
  }

  private async restoreCap(): Promise<void> {
    await this.options.from.insist((client) => client.set(this.options.vm, { cap: this.cap ?? UNCAPPED }));
  }

  /** The other host has all of it. */
  private async handOver(): Promise<void> {
    const { vm, to, out } = this.options;
    out.talk(`handing ${vm} over; if this program is ended now: ${this.undo}`);
    try {
      await this.restoreThere();
    } catch (error) {
      await this.removeThere();
      await this.takeBack(error);
    }
    await this.giveUpHere();
    out.talk(`${vm} is given up here; if this program is ended now: ${this.finish}; or: ${this.undo}`);
    if (!this.wasRunning) return;
    try {
      await to.insist(async (client) => {
        const row = (await client.list()).find(({ name }) => name === vm);
        if (row?.state !== schema.STATE_RUNNING) await client.resume(vm);
      });
    } catch (error) {
      // It said no: it does not run there, and goes on here once it is gone there.
      if (!isLost(error) && (await this.removeThere())) await this.takeBack(error);
      throw this.undecided(
        `${vm} was given up here, and nobody knows whether it runs on ${to.text}: ${toPlinthError(error).message}`,
      );
    }
  }

  /** Commands after which the other host has it. */
  private get finish(): string {
    const { vm, to } = this.options;
    const resume = this.wasRunning ? [`plinth resume ${vm}, on ${to.text}`] : [];
    return [...resume, this.rmHere, ...this.rmSnapshots].join("; ");
  }

  /** What gives it the share of its CPUs back that it had. */
  private get faster(): string[] {
    return this.brakes > 0 ? [`plinth set ${this.options.vm} cap=${this.cap ?? UNCAPPED}`] : [];
  }

  private get rmSnapshots(): string[] {
    const { to } = this.options;
    const here = [1, 2].map((n) => `plinth snapshot rm ${this.incoming}-${n}`);
    return [...here, `plinth snapshot rm ${this.incoming}, on ${to.text}`];
  }

  /** Commands after which this host has it. */
  private get undo(): string {
    const resume = `plinth resume ${this.options.vm} --force`;
    return [this.rmThere, resume, ...this.faster, ...this.rmSnapshots].join("; ");
  }

  /** A person has to look. */
  private undecided(message: string): PlinthError {
    const { vm, to } = this.options;
    return new PlinthError({
      code: ErrorCode.UNREACHABLE,
      message: `${message}; to finish: ${this.finish}; or, to take it back: ${this.undo}`,
      object: vm,
      next: `plinth show ${vm}, on ${to.text}`,
    });
  }

  /** It is made there, and does not run. */
  private async restoreThere(): Promise<void> {
    const { vm, to } = this.options;
    try {
      await to.client.restoreSnapshot(this.incoming, { paused: true });
    } catch (error) {
      if (!isLost(error) || (await to.stateOf(vm)) === undefined) throw error;
    }
  }

  /** It has to be gone there before it goes on here; false: nobody knows whether it is. */
  private async removeThere(): Promise<boolean> {
    const { vm, to } = this.options;
    const before = this.left.length;
    await this.attempt(this.rmThere, () => to.insist((client) => client.remove(vm, true, true)));
    return this.left.length === before;
  }

  /** From then on nothing here lets it run, unless somebody says so by force. */
  private async giveUpHere(): Promise<void> {
    const { vm, from } = this.options;
    const { name } = this.steps[this.steps.length - 1]!;
    try {
      await from.insist((client) => client.handOver(vm, name));
    } catch (error) {
      if (isLost(error))
        throw this.undecided(
          `${vm} stands still on both hosts, whole on each, and nobody knows whether it was given up here: ${toPlinthError(error).message}`,
        );
      // It is paused there at most, and stays so: here it may go on.
      await this.removeThere();
      await this.takeBack(error);
    }
  }

  /** Removes the snapshots that were made here. */
  private async dropSteps(): Promise<void> {
    for (const { name } of this.steps.splice(0))
      await this.attempt(`plinth snapshot rm ${name}`, () =>
        this.options.from.insist((client) => client.removeSnapshot(name)),
      );
  }

  private stopIfAsked(): void {
    const { vm } = this.options;
    this.interrupt.check(() => `nothing of ${vm} was given up`, `plinth migrate ${vm}`);
  }
}

function wrongState(vm: string, message: string, next: string): PlinthError {
  return new PlinthError({ code: ErrorCode.WRONG_STATE, message, object: vm, next });
}
