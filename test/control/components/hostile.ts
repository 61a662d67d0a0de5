// The device model; that of a VM whose command line is "hostile=CALLS" guesses capabilities and calls the kernel at
// random instead, as fast as it can. It must get nothing but statuses, and then ends itself.

import { commWrite, hypercall, log } from "../../../control/lib/binding";
import { CborReader } from "../../../control/lib/cbor";
import { LINK_CONFIG_MAX, readConfig } from "../../../control/lib/link";
import { GPA_GUEST } from "../../../control/gen/abi64";
import { GPA_EXIT, GPA_RAM, GPA_SHARED, Hypercall, PAGE_SIZE, Status } from "../../../control/gen/abi";
import * as model from "../../../control/device-model/index";

export { exitBuffer, onExit } from "../../../control/device-model/index";

const WORD: string = "hostile=";
const bytes: usize = memory.data(LINK_CONFIG_MAX, 16);
let state: u64 = 0x9e3779b97f4a7c15;

function random(): u64 {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/** A slot, a small number, an address, or anything. */
function argument(): u64 {
  const value = random();
  switch (<u32>(value >> 32) % 8) {
    case 0:
    case 1:
    case 2:
      return value % 16;
    case 3:
      return value % 4096;
    case 4: {
      const base: u64 = value & 1 ? GPA_GUEST : value & 2 ? GPA_RAM : value & 4 ? GPA_EXIT : GPA_SHARED;
      return base + ((value >> 8) % 64) * PAGE_SIZE;
    }
    case 5:
      return 1 << (value % 64);
    case 6:
      return ~(value % 4096);
    default:
      return value;
  }
}

/**
 * Not what would stop or end it, and not what returns no value. Last comes what takes away what it has, what ends its VM,
 * and what fills the log.
 */
function allowed(number: u32, last: bool): bool {
  if (number <= <u32>Hypercall.ANSWER) return false;
  switch (number) {
    case Hypercall.TRAP:
      return false;
    case Hypercall.LOG:
    case Hypercall.CAP_DROP:
    case Hypercall.CAP_REVOKE:
    case Hypercall.VCPU_START:
      return last;
  }
  return true;
}

function attack(calls: u32, last: bool): void {
  let done: u32 = 0;
  for (let n: u32 = 0; n < calls;) {
    const number = <u32>(random() % (Hypercall.COUNT + 2));
    if (!allowed(number, last)) continue;
    if (n % 8 == 0) {
      store<u64>(bytes, random());
      commWrite(<u32>(random() % (PAGE_SIZE / 8)) * 8, bytes, 8);
    }
    const status = hypercall(number, argument(), argument(), argument(), argument(), argument(), argument());
    assert(
      status >= -(<i64>Status.BAD_STATE),
      "call " + number.toString() + " returned " + status.toString(),
    );
    if (status >= 0) done++;
    n++;
  }
  log("hostile: " + calls.toString() + " calls, " + done.toString() + " done");
}

export function init(): void {
  const length = readConfig(GPA_SHARED, bytes);
  const reader = new CborReader(bytes, length);
  if (reader.find("cmdline")) {
    const words = reader.text();
    if (words.startsWith(WORD)) {
      const calls = <u32>U32.parseInt(words.substring(WORD.length));
      attack(calls, false);
      attack(calls, true);
      assert(false, "hostile to the end");
    }
  }
  model.init();
}

export function onEvents(bits: u64): void {
  model.onEvents(bits);
}
