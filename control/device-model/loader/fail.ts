// How the loader refuses: one error to the control domain, and figures that people can read.

import { sendError } from "../control-link";

// What the specification calls the image.
let imageName: string = "image";

export function nameImage(name: string): void {
  if (name.length > 0) imageName = name;
}

/** Tells the control domain why the VM cannot be loaded. */
export function failLoad(object: string, text: string, next: string): void {
  sendError(object, text, next);
}

/** Refuses the image itself; always false. */
export function refuse(text: string): bool {
  failLoad(imageName, text, "plinth images");
  return false;
}

/** "1,234 bytes". */
export function bytes(count: u64): string {
  let rest = count;
  let text = "";
  while (rest >= 1000) {
    text = `,${(rest % 1000).toString().padStart(3, "0")}${text}`;
    rest /= 1000;
  }
  return `${rest.toString()}${text} bytes`;
}

/** Hexadecimal. */
export function figure(value: u64): string {
  return `0x${value.toString(16)}`;
}
