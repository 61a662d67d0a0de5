// The shipping control domain on the model of the kernel, as a host on a Unix socket.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FrameReader } from "../../control/protocol/node/frame";
import { Rig, type RigOptions } from "../control/domain/rig";

const TICK = 20;

/** The model's serial line on a Unix socket; its clock follows ours. */
export class ModelHost {
  readonly rig: Rig;
  /** The operations that were asked for. */
  readonly asked: string[] = [];
  /** Called before an operation reaches the host. */
  onAsked: (op: string) => void = () => undefined;
  readonly folder = mkdtempSync(join(tmpdir(), "plinth-"));
  readonly path = join(this.folder, "plinth.sock");
  private readonly clients = new Set<Socket>();
  private readonly server: Server = createServer((socket) => this.accept(socket));
  private readonly timer = setInterval(() => {
    this.rig.kernel.advance(TICK);
    this.deliver();
  }, TICK);

  constructor(options: RigOptions = {}) {
    this.rig = new Rig(options);
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(this.path, resolve));
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    for (const client of this.clients) client.destroy();
    if (this.server.listening) await new Promise((resolve) => this.server.close(resolve));
    rmSync(this.folder, { recursive: true, force: true });
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
      this.rig.kernel.serial.write(bytes);
      this.rig.kernel.run();
      this.deliver();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.clients.delete(socket));
  }

  private deliver(): void {
    const bytes = this.rig.kernel.serial.read();
    if (bytes.length > 0) for (const client of this.clients) client.write(bytes);
  }
}
