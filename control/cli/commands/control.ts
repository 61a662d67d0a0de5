// `plinth control upgrade`: another control component, while VMs run on.

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import {
  ABI_VERSION,
  IMAGE_ABI_OFFSET,
  IMAGE_MAGIC,
  IMAGE_MAX,
  IMAGE_ROLE_OFFSET,
  IMAGE_SIZE_OFFSET,
  Role,
} from "../../gen/abi";
import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError } from "../errors";
import { oneLine } from "../output";
import { formatTime } from "../values";

const HEAD = 16;
/** Digits of a hash, for people. */
const SHORT = 12;
const LOOK_AGAIN = 100;
/** Bytes beyond which an upload tells how far it is, to people. */
const PROGRESS_STEP = 16 << 10;
/** A restart of the control domain spoils an upload: then it is sent again, so often. */
const ATTEMPTS = 5;

export const controlUpgrade: Command = {
  name: "control upgrade",
  operands: "IMAGE",
  options: [],
  completes: ["file"],
  summary: "replace the running control component by another image; VMs run on",
  details: [
    "IMAGE is a file (build/control.bin), or the name of a boot module. The image is on trial until it says that it",
    "is up; if it traps before, or says nothing for ten seconds, the one before comes back, and this fails.",
  ].join("\n"),
  examples: ["plinth control upgrade build/control.bin"],
  run: async (context) => {
    const name = context.args.operands[0]!;
    const bytes = existsSync(name) ? readImage(name) : undefined;
    const client = await context.connect();
    const before = await client.status();
    const since = await client.lastEvent();
    const { hash, restarts } = bytes
      ? await send(context, client, bytes)
      : { hash: await client.upgrade({ image: name }), restarts: before.controlRestarts };
    await settled(context, client, hash, restarts, since);
    const { out } = context;
    if (out.json) out.object({ image: hash, before: before.control?.image ?? "" });
    else out.talk(`control image ${hash.slice(0, SHORT)} is up, in place of ${short(before.control?.image)}`);
  },
};

function short(hash: string | undefined): string {
  return oneLine(hash ?? "an unknown one").slice(0, SHORT);
}

function unfit(file: string, text: string): PlinthError {
  return new PlinthError({
    code: ErrorCode.INTEGRITY,
    message: `${file} ${text}`,
    object: file,
    next: "plinth help control upgrade",
  });
}

/** The bytes of a control image that this program's hosts can run. */
function readImage(file: string): Uint8Array {
  const bytes = readFileSync(file);
  if (bytes.length < HEAD) throw unfit(file, "is no component of Plinth");
  const version = bytes.readUInt32LE(IMAGE_ABI_OFFSET);
  const size = bytes.readUInt32LE(IMAGE_SIZE_OFFSET);
  if ((version & ~0xff) !== IMAGE_MAGIC) throw unfit(file, "is no component of Plinth");
  if ((version & 0xff) !== ABI_VERSION)
    throw unfit(file, `is built for ABI version ${version & 0xff}, this plinth is of ${ABI_VERSION}`);
  if (bytes.readUInt32LE(IMAGE_ROLE_OFFSET) !== Role.CONTROL)
    throw unfit(file, "is a component, but no control component");
  if (size > bytes.length) throw unfit(file, `is truncated: it has ${bytes.length} of its ${size} bytes`);
  if (bytes.length > IMAGE_MAX)
    throw unfit(file, `has ${bytes.length} bytes, a control component has at most ${IMAGE_MAX}`);
  return bytes;
}

/** Uploads an image and has it started; returns its hash, and how often the control domain had been restarted. */
async function send(
  context: Context,
  client: Client,
  bytes: Uint8Array,
): Promise<{ hash: string; restarts: number }> {
  const hash = createHash("sha256").update(bytes).digest("hex");
  for (let attempt = 1; ; attempt++) {
    try {
      const upload = await client.uploadImage(bytes, progress(context, bytes.length));
      const restarts = (await client.status()).controlRestarts;
      return { hash: await client.upgrade({ ...upload, hash }), restarts };
    } catch (error) {
      const spoilt = error instanceof PlinthError && error.code === ErrorCode.WRONG_STATE;
      if (!spoilt || attempt === ATTEMPTS) throw error;
      if ((await client.status()).control?.trial) throw error;
    }
  }
}

/** Tells people at a terminal how far an upload is. */
function progress({ world, out }: Context, size: number): (at: number) => void {
  const { stderr } = world;
  const begin = Date.now();
  let told = 0;
  return (at) => {
    if (out.json || !stderr.isTTY || (at < size && at - told < PROGRESS_STEP)) return;
    told = at;
    const left = (size - at) / (at / Math.max(1, Date.now() - begin));
    const time = at < size ? `, ${formatTime(Math.ceil(left / 1000) * 1000)} left` : "";
    stderr.write(`\r${Math.floor((100 * at) / size)} % of ${Math.ceil(size / 1024)} KiB${time}   `);
    if (at === size) stderr.write("\n");
  };
}

/** Waits until the image has been confirmed; fails if another one came back. */
async function settled(
  context: Context,
  client: Client,
  hash: string,
  restarts: number,
  since: number,
): Promise<void> {
  for (const end = Date.now() + context.longTimeout; ;) {
    const { control, controlRestarts } = await client.status();
    if (controlRestarts > restarts && control) {
      if (control.image !== hash) throw await failure(client, hash, since);
      if (!control.trial) return;
    }
    if (Date.now() > end)
      throw new PlinthError({
        code: ErrorCode.UNREACHABLE,
        message: `control image ${short(hash)} was not confirmed within ${formatTime(context.longTimeout)}`,
        next: "plinth status",
      });
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
  }
}

/** Why the image before is back. */
async function failure(client: Client, hash: string, since: number): Promise<PlinthError> {
  let message = `the control domain was restarted before control image ${short(hash)} took over: try again`;
  for (let at = since; ;) {
    const { events, next } = await client.events(at);
    if (events.length === 0) break;
    const found = events.find(({ kind }) => kind === schema.EVENT_CONTROL_ROLLED_BACK);
    if (found) message = oneLine(found.text);
    at = next;
  }
  return new PlinthError({ code: ErrorCode.FAILED, message, object: "control", next: "plinth logs" });
}
