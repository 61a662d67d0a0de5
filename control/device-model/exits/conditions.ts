// The sixteen conditions of SETcc and CMOVcc.

import { message } from "./message";

const CARRY: u64 = 1 << 0;
const PARITY: u64 = 1 << 2;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

/** Whether a condition holds, by the low four bits of its opcode. */
export function holds(condition: u32): bool {
  const flags = message.rflags;
  const less = ((flags & SIGN) != 0) != ((flags & OVERFLOW) != 0);
  let result = false;
  switch (condition >> 1) {
    case 0: {
      result = (flags & OVERFLOW) != 0;
      break;
    }
    case 1: {
      result = (flags & CARRY) != 0;
      break;
    }
    case 2: {
      result = (flags & ZERO) != 0;
      break;
    }
    case 3: {
      result = (flags & (CARRY | ZERO)) != 0;
      break;
    }
    case 4: {
      result = (flags & SIGN) != 0;
      break;
    }
    case 5: {
      result = (flags & PARITY) != 0;
      break;
    }
    case 6: {
      result = less;
      break;
    }
    default:
      result = less || (flags & ZERO) != 0;
  }
  return result != ((condition & 1) != 0);
}
