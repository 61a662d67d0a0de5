// One of the two hosts of a migration: its session, and a new one when the line is back.

import { connect, type Client, type ConnectOptions } from "../client";
import { ErrorCode, PlinthError } from "../errors";
import { addressText, type Address } from "../transport";

/** How often, and in which distance, a lost host is called. */
const CALLS = 3;
const PAUSE = 500;

export class Peer {
  client: Client;
  readonly address: Address;
  private readonly options: ConnectOptions;

  private constructor(client: Client, address: Address, options: ConnectOptions) {
    this.client = client;
    this.address = address;
    this.options = options;
  }

  static async open(address: Address, options: ConnectOptions): Promise<Peer> {
    return new Peer(await connect(address, options), address, options);
  }

  get text(): string {
    return addressText(this.address);
  }

  async close(): Promise<void> {
    await this.client.close();
  }

  /** The state of a VM there; undefined: there is none. Throws when the host cannot be asked, also after more calls. */
  async stateOf(vm: string): Promise<string | undefined> {
    return this.insist(async (client) => (await client.list()).find(({ name }) => name === vm)?.state);
  }

  /** Does what may be done twice, in new sessions if the line breaks. */
  async insist<Result>(act: (client: Client) => Promise<Result>): Promise<Result> {
    for (let call = 1; ; call++) {
      try {
        return await act(this.client);
      } catch (error) {
        if (!isLost(error) || call === CALLS) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, Math.min(PAUSE, this.options.timeout ?? PAUSE)));
      await this.client.close();
      this.client = await connect(this.address, this.options).catch(() => this.client);
    }
  }
}

/** Nobody knows whether it was done. */
export function isLost(error: unknown): boolean {
  return error instanceof PlinthError && error.code === ErrorCode.UNREACHABLE;
}
