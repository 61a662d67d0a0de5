// Requests about named ports: attach, read, write, detach; and telling programs that there is something new.

import {
  ErrorCode,
  FIELD_AT,
  FIELD_DATA,
  FIELD_ENDED,
  FIELD_EV,
  FIELD_FORCE,
  FIELD_FROM,
  FIELD_NEXT,
  FIELD_OPEN,
  FIELD_PORT,
  FIELD_READ,
  FIELD_SESSION,
  FIELD_UNREAD,
  FIELD_VM,
  FIELD_WAIT,
  FIELD_WRITE,
  Protocol,
  PUSH_PORT,
} from "../protocol/schema";
import { noSuchVm } from "./commands";
import { frameSend } from "./frames";
import { Source } from "./line";
import { Fault, Outcome } from "./outcome";
import { Port, portsUnused, portsUsed } from "./port";
import { clean, nearest, quoted } from "./text";
import { Kind, Value } from "./value";
import { Vm } from "./vm";
import { vmFind, vmsAll } from "./vms";

const piece: usize = memory.data(3072, 16); /* Protocol.MAX_CHUNK */

/** What was looked for: a port, or why it cannot be used. */
class Found {
  vm: Vm | null = null;
  port: Port | null = null;
  fault: Fault | null = null;
}

function fail(code: ErrorCode, vm: string, text: string, next: string): Fault {
  return new Fault(code, "VM " + quoted(vm) + ": " + text, vm, next);
}

function find(request: Value): Found {
  const found = new Found();
  const name = request.getText(FIELD_VM);
  const portName = request.getText(FIELD_PORT);
  const vm = vmFind(name);
  if (vm == null) {
    found.fault = noSuchVm(name);
    return found;
  }
  const at = vm.spec.ports.indexOf(portName);
  if (at < 0) {
    const near = nearest(portName, vm.spec.ports);
    const all = vm.spec.ports.length > 0 ? "its ports are " + vm.spec.ports.join(", ") : "it has none";
    const hint = near != "" ? "did you mean " + quoted(near) + "?" : all;
    found.fault = fail(
      ErrorCode.NOT_FOUND,
      name,
      "there is no port " + quoted(clean(portName, 40)) + ", " + hint,
      "show " + name,
    );
  } else if (!vm.alive || at >= vm.ports.length) {
    found.fault = fail(ErrorCode.WRONG_STATE, name, "it is " + vm.state, "start " + name);
  } else {
    found.vm = vm;
    found.port = vm.ports[at];
  }
  return found;
}

/** The port of a request that belongs to a session. */
function findSession(request: Value): Found {
  const found = find(request);
  const port = found.port;
  if (port == null) return found;
  const session = <u32>request.getUint(FIELD_SESSION);
  if (port.isAttached && port.session == session) port.touch();
  else {
    const text = "port " + quoted(port.name) + " has another user now, or the VM was started again";
    found.fault = fail(
      ErrorCode.WRONG_STATE,
      found.vm!.name,
      text,
      "port " + found.vm!.name + " " + port.name,
    );
  }
  return found;
}

/** Why a port cannot be attached now. */
export function portRefuses(vm: Vm, port: Port, session: u32, wait: bool, force: bool): Fault | null {
  const what = "port " + quoted(port.name);
  const next = "port " + vm.name + " " + port.name;
  if (port.isAttached && port.session != session && !force)
    return fail(ErrorCode.WRONG_STATE, vm.name, what + " is in use by another program", next + " --force");
  if (!wait && !port.isReadable)
    return fail(ErrorCode.WRONG_STATE, vm.name, what + " is not open in the VM", next + " --wait");
  return null;
}

/** Opens a port for the program that makes up `session`, an odd number. */
export function portAttach(request: Value): Outcome {
  const found = find(request);
  if (found.fault != null) return Outcome.fail(found.fault!);
  const vm = found.vm!;
  const port = found.port!;
  const session = <u32>request.getUint(FIELD_SESSION);
  if ((session & 1) == 0)
    return Outcome.fail(fail(ErrorCode.USAGE, vm.name, "a session is an odd number", "help port"));
  const wait = request.getBool(FIELD_WAIT);
  const fault = portRefuses(vm, port, session, wait, request.getBool(FIELD_FORCE));
  if (fault != null) return Outcome.fail(fault);
  // The VM's side is at its end when it has closed the port; before that, it may still have to open it.
  const guest = port.guestSession;
  const ended = port.isOpen ? guest + 1 : wait ? guest + 2 : guest;
  port.attach(session);
  vm.link!.signal();
  return Outcome.of(
    Value.map()
      .putUint(FIELD_READ, port.readPosition)
      .putUint(FIELD_WRITE, port.writePosition)
      .putUint(FIELD_ENDED, ended)
      .putBool(FIELD_OPEN, port.isOpen),
  );
}

export function portDetach(request: Value): Outcome {
  const found = find(request);
  if (found.fault != null) return Outcome.fail(found.fault!);
  const port = found.port!;
  if (port.session == <u32>request.getUint(FIELD_SESSION)) {
    port.read(<u32>request.getUint(FIELD_FROM), piece, 0);
    port.detach();
    found.vm!.link!.signal();
  }
  return Outcome.of(Value.map());
}

/** What the VM has sent, from a position on; what is before it is not kept any longer. */
export function portRead(request: Value): Outcome {
  const found = findSession(request);
  if (found.fault != null) return Outcome.fail(found.fault!);
  const port = found.port!;
  const guest = port.guestSession; // before the bytes: if they are the last, this tells
  const from = <u32>request.getUint(FIELD_FROM);
  const before = port.readPosition;
  const length = port.read(from, piece, Protocol.MAX_CHUNK);
  if (length < 0)
    return Outcome.fail(fail(ErrorCode.FAILED, found.vm!.name, "it has no such bytes", "help port"));
  if (port.readPosition != before) found.vm!.link!.signal();
  if (length == 0) port.await();
  const data = new StaticArray<u8>(length);
  memory.copy(changetype<usize>(data), piece, length);
  return Outcome.of(
    Value.map()
      .putUint(FIELD_AT, from)
      .put(FIELD_DATA, Value.bytes(data))
      .putUint(FIELD_SESSION, guest)
      .putUint(FIELD_UNREAD, port.unreadBytes),
  );
}

/** Bytes for the VM, of which those that find room are taken. */
export function portWrite(request: Value): Outcome {
  const found = findSession(request);
  if (found.fault != null) return Outcome.fail(found.fault!);
  const port = found.port!;
  const data = request.get(FIELD_DATA);
  if (
    data == null ||
    data.kind != Kind.BYTES ||
    !port.write(<u32>request.getUint(FIELD_AT), changetype<usize>(data.blob), data.blob.length)
  )
    return Outcome.fail(
      fail(ErrorCode.USAGE, found.vm!.name, "port.write needs data for where it is", "help port"),
    );
  found.vm!.link!.signal();
  port.await();
  return Outcome.of(
    Value.map().putUint(FIELD_NEXT, port.writePosition).putUint(FIELD_UNREAD, port.unreadBytes),
  );
}

/** Frees ports whose programs are gone. Returns when it must be called again (uptime in ms). */
export function portsTick(now: u64): u64 {
  let next = u64.MAX_VALUE;
  if (!portsUsed()) return next;
  let attached = false;
  const all = vmsAll();
  for (let i = 0; i < all.length; i++) {
    const vm = all[i];
    for (let n = 0; vm.alive && n < vm.ports.length; n++) {
      const port = vm.ports[n];
      if (!port.isAttached) continue;
      attached = true;
      if (port.leaseEnd > now) next = min(next, port.leaseEnd);
      else {
        port.detach();
        vm.link!.signal();
      }
    }
  }
  if (!attached) portsUnused();
  return next;
}

/** Tells programs that a port has something new; what it is they ask for. */
export class PortPush extends Source {
  pull(): bool {
    if (!portsUsed()) return false;
    const all = vmsAll();
    for (let i = 0; i < all.length; i++) {
      const vm = all[i];
      for (let n = 0; vm.alive && n < vm.ports.length; n++) {
        const port = vm.ports[n];
        if (!port.hasNews) continue;
        port.waiting = false;
        return frameSend(
          Value.map().putText(FIELD_EV, PUSH_PORT).putText(FIELD_VM, vm.name).putText(FIELD_PORT, port.name),
        );
      }
    }
    return false;
  }
}
