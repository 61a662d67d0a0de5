// A component for testing the runtime: answers exits, logs events, and traps when it is told to.

import {
  log,
  now,
  portIn,
  portOut,
  sharedCopy,
  sharedFill,
  sharedLoad32,
  sharedRead,
  sharedStore32,
  sharedWrite,
} from "../../../control/lib/binding";
import { ExitType, GPA_SHARED, Reply } from "../../../control/gen/abi";
import { GPA_GUEST } from "../../../control/gen/abi64";
import { ExitMessage } from "../../../control/gen/layout";

const buffer: usize = memory.data(320, 16);
const scratch: usize = memory.data(64, 16);
let keep: Array<string> = [];

function recurse(depth: u32): u32 {
  return depth == 0 ? 0 : recurse(depth - 1) + <u32>(now() & 1);
}

@unmanaged
class Node {
  next: Node | null = null;
  value: i32 = 0;
}

/** Each bit of an event word, counted from 0, is a test of its own. */
function test(number: u32): void {
  switch (number) {
    case 0:
      assert(false, "asked for");
      break;
    case 1:
      store<u8>(0x7fff0000, 1);
      break;
    case 2:
      log(load<u32>(changetype<usize>(keep.length) + 64).toString());
      break;
    case 3:
      log((<u32>5 / <u32>(keep.length - keep.length)).toString());
      break;
    case 4:
      recurse(1 << 20);
      break;
    case 5:
      unreachable();
      break;
    case 6: {
      for (let i = 0; i < 1000000; i++) keep.push("text " + i.toString());
      break;
    }
    case 7:
      sharedRead(scratch, 0x1000, 4);
      break;
    case 8:
      sharedRead(0x7fffff00, GPA_SHARED, 4);
      break;
    case 9: {
      store<u64>(scratch, 0x1122334455667788);
      sharedWrite(GPA_SHARED, scratch, 8);
      sharedStore32(GPA_SHARED + 8, sharedLoad32(GPA_SHARED + 4));
      sharedCopy(GPA_GUEST, GPA_SHARED, 16);
      sharedFill(GPA_GUEST + 1, 0x55, 2);
      sharedRead(scratch, GPA_GUEST, 16);
      log(load<u64>(scratch).toString(16) + " " + load<u64>(scratch + 8).toString(16));
      break;
    }
    case 10:
      log("port " + portIn(0x71, 1).toString(16));
      break;
    case 11: {
      const words = ["delta", "alpha", "charlie"];
      words.sort();
      log(words.join(","));
      break;
    }
    case 12: {
      for (let i = 0; i < 2000; i++) keep = [i.toString()];
      log("pages " + memory.size().toString());
      break;
    }
  }
}

export function init(): void {
  log("hello " + (now() > 0).toString());
}

export function onEvents(bits: u64): void {
  for (let i: u32 = 17; i < 64; i++) {
    if ((bits >> i) & 1) test(i - 17);
  }
}

export function exitBuffer(): usize {
  return buffer;
}

export function onExit(index: u32): void {
  const message = changetype<ExitMessage>(buffer);
  message.reply = Reply.ADVANCE;
  message.reply_length = message.length;
  switch (message.type) {
    case ExitType.PORT_IN: {
      message.reply_value = message.port ^ 0xff;
      break;
    }
    case ExitType.PORT_OUT: {
      if (message.value == 13) portOut(0x80, 1, index);
      break;
    }
    case ExitType.MMIO: {
      message.gpr[3] = message.gpa + message.gpr[15];
      message.reply_gprs = 8;
      break;
    }
  }
}
