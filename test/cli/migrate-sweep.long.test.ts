// A migration between two hosts with the shipping control domain is ended at each of its phases (migrate-sweep.ts).

import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { type Client, connect } from "../../control/cli/client";
import { Role } from "../../control/gen/abi";
import { hostSpec, MIB } from "../control/domain/rig";
import { migrationSweep } from "./migrate-sweep";
import { ModelHost } from "./model-host";

const TEXT = "what it has in its memory";
const AT = 5 * MIB;

class Host {
  private constructor(
    private readonly model: ModelHost,
    readonly client: Client,
  ) {}

  static async boot(): Promise<Host> {
    const model = new ModelHost({ spec: hostSpec([]) });
    await model.start();
    return new Host(model, await connect(model.path, { timeout: 10_000 }));
  }

  get path(): string {
    return this.model.path;
  }

  memory(vm: string): {
    write(at: number, bytes: Uint8Array): void;
    read(at: number, size: number): Uint8Array;
  } {
    return this.model.rig.kernel.domain(`vm/${vm}`, Role.VM).space;
  }

  async stop(): Promise<void> {
    await this.client.close();
    this.model.cut();
    await this.model.stop();
  }
}

let steps = 0;

migrationSweep({
  name: "a migration that is ended at each phase",
  folder: join(tmpdir(), `plinth-sweep-${process.pid}`),
  boot: () => Host.boot(),
  async create(host, vm) {
    await host.client.create({ name: vm, memory: 64 * MIB, kernel: "linux", start: true });
    while ((await host.client.show(vm)).state !== "running");
    (host as Host).memory(vm).write(AT, Buffer.from(TEXT));
  },
  async progress(host, vm) {
    assert.is(Buffer.from((host as Host).memory(vm).read(AT, TEXT.length)).toString(), TEXT);
    return ++steps;
  },
});
