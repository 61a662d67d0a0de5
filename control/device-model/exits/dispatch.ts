// What each exit does. The hot path, a port access, allocates nothing and is a few table lookups.

import { ExitType, Reply } from "../../gen/abi";
import { ioapic } from "../chips/ioapic";
import { pic } from "../chips/pic";
import { onClock } from "../kvm-clock";
import { portRead, portWrite } from "../port-bus";
import { endBroken } from "../power";
import { message, setVcpuIndex } from "./message";
import { onMmio } from "./mmio";
import { onPortString } from "./string-io";

/** Rows of the table of handlers: a power of two above every ExitType. */
const HANDLERS: i32 = 16;

type Handler = () => void;

// By exit type, for all but the two of the hot path. Called through a table, so that none of them is
// compiled into the hot path, which would then save the registers that they need.
const handlers = new StaticArray<Handler>(HANDLERS);
for (let i = 0; i < HANDLERS; i++) handlers[i] = resume;
handlers[ExitType.PORT_STRING] = onPortString;
handlers[ExitType.MMIO] = onMmio;
handlers[ExitType.EOI] = onEoi;
handlers[ExitType.EXTINT_ACK] = onExtintAck;
handlers[ExitType.CLOCK] = onClockWrite;
handlers[ExitType.SHUTDOWN] = onShutdown;
handlers[ExitType.FAILED] = onFailed;

/** Answers the exit message of vCPU `index`. */
export function dispatchExit(index: u32): void {
  setVcpuIndex(index);
  const kind = message.type;
  if (kind == ExitType.PORT_IN) {
    advance();
    message.reply_value = portRead(message.port & 0xffff, message.size);
  } else if (kind == ExitType.PORT_OUT) {
    advance();
    portWrite(message.port & 0xffff, message.size, <u32>message.value);
  } else {
    unchecked(handlers[kind & (HANDLERS - 1)])();
  }
}

// A device that ends the VM changes the reply to STOP, so it is set before the device is asked.
function advance(): void {
  message.reply = Reply.ADVANCE;
  message.reply_length = message.length;
  message.reply_gprs = 0;
}

// For exits that belong to no instruction.
function resume(): void {
  message.reply = Reply.RETRY;
  message.reply_gprs = 0;
}

function onEoi(): void {
  resume();
  ioapic.endOfInterrupt((<u32>message.value) & 0xff);
}

function onExtintAck(): void {
  resume();
  pic.acknowledge((<u32>message.value) & 0xff);
}

function onClockWrite(): void {
  resume();
  onClock();
}

function onShutdown(): void {
  endBroken("triple fault", 0);
}

function onFailed(): void {
  endBroken("entry failed", message.value);
}
