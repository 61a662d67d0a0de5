// A specification that a program sends in pieces, since it is longer than a frame; what it would change; applying it.

import { Plan, Step } from "../protocol/planner";
import {
  ErrorCode,
  FIELD_ACTION,
  FIELD_AT,
  FIELD_CODE,
  FIELD_DATA,
  FIELD_DIGEST,
  FIELD_ENDS,
  FIELD_FREE,
  FIELD_FROM,
  FIELD_MESSAGE,
  FIELD_NEXT,
  FIELD_OBJECT,
  FIELD_REASON,
  FIELD_REFUSALS,
  FIELD_SESSION,
  FIELD_SIZE,
  FIELD_STEPS,
  Specification,
} from "../protocol/schema";
import { PAGE_SIZE } from "../gen/abi";
import { applyPlan } from "./apply";
import { decode } from "./codec";
import { documentBuffer, freePages } from "./host";
import { HostSpec, readHostSpec } from "./host-spec";
import { Fault, Outcome } from "./outcome";
import { digestOf, planSpec } from "./planning";
import { policyDenied } from "./rules";
import { clean, counted } from "./text";
import { Kind, Value } from "./value";

/** Bytes of steps and refusals in one reply. */
const PAGE_BUDGET = 3400;
const MAX_TEXT = 450;

/** Whose draft is in the buffer, and its bytes so far. */
let owner: u64 = 0;
let length: u32 = 0;

function lost(): Fault {
  const text =
    "the specification is not whole here: another program sent one, or the control domain was restarted";
  return new Fault(ErrorCode.WRONG_STATE, text, "spec", "diff -f FILE");
}

/** Takes the piece of a specification at a position; position 0 of a session begins one. */
export function draftPut(request: Value): Outcome {
  const session = request.getUint(FIELD_SESSION);
  const at = request.getUint(FIELD_AT);
  const data = request.get(FIELD_DATA);
  if (session == 0 || data == null || data.kind != Kind.BYTES)
    return Outcome.fail(
      new Fault(ErrorCode.USAGE, "spec.put needs session, at and data", "spec", "help apply"),
    );
  if (at > <u64>Specification.MAX_SIZE || at + data.blob.length > <u64>Specification.MAX_SIZE)
    return Outcome.fail(
      new Fault(ErrorCode.USAGE, "a specification has at most 65,536 bytes", "spec", "help apply"),
    );
  if (session != owner && at == 0) {
    owner = session;
    length = 0;
  }
  if (session != owner || at > length) return Outcome.fail(lost());
  memory.copy(documentBuffer + <usize>at, changetype<usize>(data.blob), data.blob.length);
  length = max(length, <u32>at + data.blob.length);
  return Outcome.of(Value.map().putUint(FIELD_SIZE, length));
}

/** The draft of a request; null: it is not whole. */
function draftOf(request: Value): HostSpec | null {
  if (request.getUint(FIELD_SESSION) != owner || owner == 0) return null;
  if (request.getUint(FIELD_SIZE) != length) return null;
  return readHostSpec(decode(documentBuffer, length));
}

function stepToValue(step: Step): Value {
  return Value.map()
    .putText(FIELD_ACTION, step.action)
    .putText(FIELD_OBJECT, step.object)
    .putText(FIELD_REASON, clean(step.reason, MAX_TEXT))
    .putBool(FIELD_ENDS, step.ends);
}

function refusalToValue(plan: Plan, index: i32): Value {
  const refusal = plan.refusals[index];
  return Value.map()
    .putUint(FIELD_CODE, refusal.code)
    .putText(FIELD_MESSAGE, clean(refusal.message, MAX_TEXT))
    .putText(FIELD_OBJECT, clean(refusal.object, 60))
    .putText(FIELD_NEXT, "plinth " + refusal.next);
}

/** What a draft would change: its refusals, then its steps, from number `from` on. */
export function draftPlan(request: Value): Outcome {
  const spec = draftOf(request);
  if (spec == null) return Outcome.fail(lost());
  const plan = planSpec(spec, false);
  const steps = Value.list();
  const refusals = Value.list();
  const result = Value.map()
    .putUint(FIELD_DIGEST, digestOf(plan))
    .putUint(FIELD_FREE, freePages() * PAGE_SIZE)
    .put(FIELD_REFUSALS, refusals)
    .put(FIELD_STEPS, steps);
  const first = plan.refusals.length;
  let budget = PAGE_BUDGET;
  for (let i = <i32>min<u64>(request.getUint(FIELD_FROM), 1 << 16); i < first + plan.steps.length; i++) {
    const isRefusal = i < first;
    const text = isRefusal ? plan.refusals[i].message : plan.steps[i - first].reason;
    budget -= 160 + 3 * min(text.length, MAX_TEXT);
    if (budget < 0) return Outcome.of(result.putUint(FIELD_NEXT, i));
    if (isRefusal) refusals.add(refusalToValue(plan, i));
    else steps.add(stepToValue(plan.steps[i - first]));
  }
  return Outcome.of(result);
}

/** Applies a draft: whole, or not at all. */
export function draftApply(request: Value): Outcome {
  const spec = draftOf(request);
  if (spec == null) return Outcome.fail(lost());
  const plan = planSpec(spec, true);
  if (plan.refusals.length > 0) return Outcome.fail(refused(plan));
  if (request.getUint(FIELD_DIGEST) != digestOf(plan)) {
    const text = "the host has changed since the plan was made: nothing was done";
    return Outcome.fail(new Fault(ErrorCode.WRONG_STATE, text, "spec", "diff -f FILE"));
  }
  const fault = applyPlan(spec, plan);
  if (fault != null) return Outcome.fail(fault);
  return Outcome.of(Value.map().putUint(FIELD_STEPS, plan.steps.length));
}

function refused(plan: Plan): Fault {
  for (let i = 0; i < plan.refusals.length; i++) {
    const refusal = plan.refusals[i];
    if (refusal.denied != "") policyDenied(refusal.tenant, refusal.denied, "", refusal.message);
  }
  const first = plan.refusals[0];
  const more = plan.refusals.length - 1;
  const text = first.message + (more > 0 ? " (and " + counted(more, "refusal") + " more)" : "");
  return new Fault(first.code, text, first.object, first.next);
}
