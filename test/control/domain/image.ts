// Control images for the model of the kernel: the head of a real one, and WebAssembly.

import {
  ABI_VERSION,
  IMAGE_ABI_OFFSET,
  IMAGE_MAGIC,
  IMAGE_ROLE_OFFSET,
  IMAGE_SIZE_OFFSET,
  Role,
} from "../../../control/gen/abi";

const HEAD = 16;

export interface ImageOptions {
  abi?: number;
  role?: Role;
  /** Bytes behind it, so that it is another one. */
  tail?: Uint8Array;
}

export function modelImage(wasm: Uint8Array, options: ImageOptions = {}): Uint8Array {
  const head = Buffer.alloc(HEAD);
  head.writeUInt32LE(HEAD + wasm.length, IMAGE_SIZE_OFFSET);
  head.writeUInt32LE(IMAGE_MAGIC + (options.abi ?? ABI_VERSION), IMAGE_ABI_OFFSET);
  head.writeUInt32LE(options.role ?? Role.CONTROL, IMAGE_ROLE_OFFSET);
  return new Uint8Array(Buffer.concat([head, wasm, options.tail ?? new Uint8Array(0)]));
}
