// What the boot image was built with: a boot module that is missing or truncated is told of by name.

import { FIELD_MODULES, FIELD_NAME, FIELD_SIZE, MODULE_MANIFEST } from "../protocol/schema";
import { findModule, moduleDocument } from "./host";
import { clean, grouped, quoted } from "./text";

/** What to do about it. */
export const DAMAGE_NEXT: string = "write the boot image again";

const names: string[] = [];
const texts: string[] = [];

/** Compares; an image that somebody laid out by hand may have no manifest. */
export function manifestCheck(): void {
  const module = findModule(MODULE_MANIFEST);
  if (module == null) return;
  const content = moduleDocument(module);
  if (content == null) return damaged(MODULE_MANIFEST, "is damaged");
  const list = content.getList(FIELD_MODULES);
  for (let i = 0; i < list.length; i++) compare(list[i].getText(FIELD_NAME), list[i].getUint(FIELD_SIZE));
}

function compare(name: string, size: u64): void {
  const module = findModule(name);
  if (module == null) damaged(name, "is missing: the boot loader could not read it");
  else if (module.size != size)
    damaged(name, "is truncated: it has " + grouped(module.size) + " of its " + grouped(size) + " bytes");
}

function damaged(name: string, how: string): void {
  names.push(name);
  texts.push("boot module " + quoted(clean(name, 60)) + " " + how);
}

/** What is wrong with the medium, a line each. */
export function damages(): string[] {
  return texts;
}

/** What is wrong with a module, "" if nothing is. */
export function damageOf(name: string): string {
  const at = names.indexOf(name);
  return at < 0 ? "" : texts[at];
}
