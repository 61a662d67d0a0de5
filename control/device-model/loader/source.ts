// The image that a VM starts from: mapped read-only, read once where something hangs on it.

import { sharedRead } from "../../lib/binding";
import { copyToGuest } from "../guest-memory";
import { KERNEL_GPA } from "./layout";

/** A piece of the image, while one function looks at it. */
export const SCRATCH: u32 = 4096;
export const scratch: usize = memory.data(4096, 8);

/** Bytes of the image. */
export let imageSize: u64 = 0;

export function setImage(size: u64): void {
  imageSize = size;
}

/** Whether [offset, offset + length) lies in the image. */
export function inImage(offset: u64, length: u64): bool {
  return length <= imageSize && offset <= imageSize - length;
}

/** Copies a part of the image to linear memory. False: it is not all there, and nothing was copied. */
export function readImage(to: usize, offset: u64, length: u32): bool {
  if (!inImage(offset, length)) return false;
  sharedRead(to, KERNEL_GPA + offset, length);
  return true;
}

/** Copies a part of the image to the VM's memory; the caller has checked both ends. */
export function loadImage(gpa: u64, offset: u64, length: u64): void {
  const inside = inImage(offset, length) && copyToGuest(gpa, KERNEL_GPA + offset, length);
  assert(inside, "loader: a copy that nobody has checked");
}
