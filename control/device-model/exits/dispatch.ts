// What each exit does. The hot path, a port access, allocates nothing and is a few table lookups.

import { ExitType, Reply } from "../../gen/abi";
import { ioapic } from "../chips/ioapic";
import { pic } from "../chips/pic";
import { portRead, portWrite } from "../port-bus";
import { endBroken } from "../power";
import { message, setVcpuIndex } from "./message";
import { onMmio } from "./mmio";
import { onPortString } from "./string-io";

/** Answers the exit message of vCPU `index`. */
export function dispatchExit(index: u32): void {
  setVcpuIndex(index);
  // A device that ends the VM changes the reply to STOP, so it is set first.
  switch (message.type) {
    case ExitType.PORT_IN: {
      message.reply = Reply.ADVANCE;
      message.reply_length = message.length;
      message.reply_gprs = 0;
      message.reply_value = portRead(message.port & 0xffff, message.size);
      return;
    }
    case ExitType.PORT_OUT: {
      message.reply = Reply.ADVANCE;
      message.reply_length = message.length;
      message.reply_gprs = 0;
      portWrite(message.port & 0xffff, message.size, <u32>message.value);
      return;
    }
    case ExitType.PORT_STRING: {
      message.reply = Reply.RETRY;
      onPortString();
      return;
    }
    case ExitType.MMIO: {
      onMmio();
      return;
    }
    case ExitType.EOI: {
      resume();
      ioapic.endOfInterrupt((<u32>message.value) & 0xff);
      return;
    }
    case ExitType.EXTINT_ACK: {
      resume();
      pic.acknowledge();
      return;
    }
    case ExitType.SHUTDOWN: {
      endBroken("triple fault", 0);
      return;
    }
    case ExitType.FAILED: {
      endBroken("entry failed", message.value);
      return;
    }
    default:
      resume();
  }
}

// These exits belong to no instruction.
function resume(): void {
  message.reply = Reply.RETRY;
  message.reply_gprs = 0;
}
