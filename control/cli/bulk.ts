// Bulk data (pages of snapshots) over a way of its own, so that the first line stays free; over that one if it is lost.

import type { Message } from "../protocol/node/cbor";
import * as schema from "../protocol/schema";
import { ErrorCode, PlinthError, toPlinthError } from "./errors";
import { Line, type RequestOptions } from "./line";
import type { HostStatus } from "./results";
import { addressText, openTransport, type Address } from "./transport";

/** What carries requests: a serial line now, whatever it is on; a network connection would have the same two methods. */
export interface Carrier {
  request(op: string, fields: Message, options: RequestOptions): Promise<unknown>;
  close(): Promise<void>;
}

/** Milliseconds in which the bulk line must answer when it is opened, and later. */
const OPEN_PATIENCE = 5_000;
const PATIENCE = 15_000;

type Notice = ((text: string) => void) | undefined;

/** Opens the bulk line of the host at the other end of `main`; undefined, and a notice: it does not answer. */
export async function openBulk(
  main: Carrier,
  address: Address,
  timeout: number,
  notice: Notice,
): Promise<BulkCarrier | undefined> {
  const patience = Math.min(timeout, OPEN_PATIENCE);
  let bulk: Line | undefined;
  try {
    bulk = new Line(await openTransport(address, patience), addressText(address));
    await bulk.hello(patience);
    await checkSameHost(main, bulk, timeout);
    return new BulkCarrier(main, bulk, notice);
  } catch (error) {
    await bulk?.close();
    if (!isLost(error)) throw error;
    notice?.(`${toPlinthError(error).message}: pages go over the first line`);
    return undefined;
  }
}

/** A host has one clock: what it shows on the bulk line is between what it shows on the first one before and after. */
async function checkSameHost(main: Carrier, bulk: Line, timeout: number): Promise<void> {
  const ask = async (carrier: Carrier): Promise<HostStatus> =>
    (await carrier.request(schema.OP_STATUS, {}, { timeout })) as HostStatus;
  const [before, there, after] = [await ask(main), await ask(bulk), await ask(main)];
  const isSame =
    before.host === there.host && before.uptimeMs <= there.uptimeMs && there.uptimeMs <= after.uptimeMs;
  if (isSame) return;
  throw new PlinthError({
    code: ErrorCode.USAGE,
    message: `${bulk.name} is the line of another host (${there.host}), not of ${before.host}`,
    object: bulk.name,
    next: "give --bulk the second line of the same host, or --bulk off",
  });
}

export class BulkCarrier implements Carrier {
  private bulk: Carrier | undefined;
  /** Resolves when the host takes nothing more from the bulk line. */
  private givenUp: Promise<unknown> | undefined;

  constructor(
    private readonly main: Carrier,
    bulk: Carrier,
    private readonly notice: Notice,
  ) {
    this.bulk = bulk;
  }

  /** Only for what may be done twice. */
  async request(op: string, fields: Message, options: RequestOptions): Promise<unknown> {
    const { bulk, main } = this;
    if (bulk !== undefined) {
      try {
        const timeout = Math.min(options.timeout, PATIENCE);
        return await bulk.request(op, fields, { ...options, timeout });
      } catch (error) {
        if (!isLost(error)) throw error;
        this.giveUp(bulk, toPlinthError(error).message, options);
      }
    }
    await this.givenUp;
    return main.request(op, fields, options);
  }

  async close(): Promise<void> {
    await this.bulk?.close();
  }

  /** What was sent there may still come to the host, later than what is sent after it here: so it is refused from now on. */
  private giveUp(bulk: Carrier, why: string, options: RequestOptions): void {
    if (this.bulk === undefined) return;
    this.bulk = undefined;
    this.notice?.(`${why}: pages go over the first line`);
    this.givenUp = this.main.request(schema.OP_BULK_CLOSE, {}, options).then(() => bulk.close());
    this.givenUp.catch(() => undefined); // told to those that wait for it
  }
}

function isLost(error: unknown): boolean {
  return error instanceof PlinthError && error.code === ErrorCode.UNREACHABLE;
}
