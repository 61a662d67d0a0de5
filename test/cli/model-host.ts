// The shipping control domain on the model of the kernel, as a host on a Unix socket.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FrameReader } from "../../control/protocol/node/frame";
import { Rig, type RigOptions } from "../control/domain/rig";
import type { Uart } from "../control/model/uart";

const TICK = 20;

/** One of the model's serial lines on a Unix socket. */
export class ModelLine {
  /** The operations that were asked for. */
  readonly asked: string[] = [];
  /** Called before an operation reaches the host. */
  onAsked: (op: string) => void = () => undefined;
  /** Nothing comes through, in either direction. */
  isMute = false;
  private readonly clients = new Set<Socket>();
  private readonly server: Server = createServer((socket) => this.accept(socket));

  constructor(
    private readonly uart: Uart,
    /** Lets the host work. */
    private readonly run: () => void,
  ) {}

  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(path, resolve));
  }

  async stop(): Promise<void> {
    for (const client of this.clients) client.destroy();
    if (this.server.listening) await new Promise((resolve) => this.server.close(resolve));
  }

  /** The line is cut, and nobody listens any more. */
  cut(): void {
    this.server.close();
    for (const client of this.clients) client.destroy();
  }

  private accept(socket: Socket): void {
    this.clients.add(socket);
    const reader = new FrameReader({
      message: (message) => {
        this.asked.push(String(message.op));
        this.onAsked(String(message.op));
      },
      text: () => undefined,
    });
    socket.on("data", (bytes: Buffer) => {
      reader.feed(bytes);
      if (!this.isMute) this.uart.write(bytes);
      this.run();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.clients.delete(socket));
  }

  deliver(): void {
    const bytes = this.uart.read();
    if (bytes.length > 0 && !this.isMute) for (const client of this.clients) client.write(bytes);
  }
}

/** The model's serial lines on Unix sockets; its clock follows ours. */
export class ModelHost {
  readonly rig: Rig;
  readonly folder = mkdtempSync(join(tmpdir(), "plinth-"));
  readonly path = join(this.folder, "plinth.sock");
  readonly bulkPath = join(this.folder, "plinth-bulk.sock");
  private readonly line: ModelLine;
  readonly bulk: ModelLine;
  private readonly timer: NodeJS.Timeout;

  /** `hasBulk`: the bulk line is beside the main one. */
  constructor(
    options: RigOptions = {},
    private readonly hasBulk = false,
  ) {
    this.rig = new Rig(options);
    const { kernel } = this.rig;
    const run = (): void => {
      kernel.run();
      this.deliver();
    };
    this.line = new ModelLine(kernel.serial, run);
    this.bulk = new ModelLine(kernel.bulk, run);
    this.timer = setInterval(() => {
      kernel.advance(TICK);
      this.deliver();
    }, TICK);
  }

  /** The operations that were asked for on the main line. */
  get asked(): string[] {
    return this.line.asked;
  }

  set onAsked(told: (op: string) => void) {
    this.line.onAsked = told;
  }

  async start(): Promise<void> {
    await this.line.listen(this.path);
    if (this.hasBulk) await this.bulk.listen(this.bulkPath);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.line.stop();
    await this.bulk.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The main line is cut, and nobody listens any more. */
  cut(): void {
    this.line.cut();
  }

  private deliver(): void {
    this.line.deliver();
    this.bulk.deliver();
  }
}
