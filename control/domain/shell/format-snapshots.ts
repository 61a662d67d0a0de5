// What is printed of snapshots.

import { PAGE_SIZE } from "../../gen/abi";
import {
  FIELD_ABI,
  FIELD_BASE,
  FIELD_CREATED,
  FIELD_FEATURES,
  FIELD_KIND,
  FIELD_MEMORY,
  FIELD_MODEL,
  FIELD_NAME,
  FIELD_NOTE,
  FIELD_OBJECTS,
  FIELD_OWN,
  FIELD_PAGES,
  FIELD_PAUSE_TICKS,
  FIELD_SNAPSHOTS,
  FIELD_STATE,
  FIELD_TENANT,
  FIELD_TSC_HZ,
  FIELD_VCPUS,
  FIELD_VENDOR,
  FIELD_VM,
  OP_SNAPSHOT_CREATE,
  OP_SNAPSHOT_LS,
  OP_SNAPSHOT_RM,
  OP_SNAPSHOT_SHOW,
} from "../../protocol/schema";
import { wallClock } from "../clock";
import { counted, duration, grouped, mib, row } from "../text";
import { Value } from "../value";
import { line, wrapped } from "./format";

const WIDTHS: i32[] = [28, 14, 12, 12, 10, 0];

export function formatSnapshots(op: string, value: Value): string {
  if (op == OP_SNAPSHOT_LS) return formatRows(value);
  if (op == OP_SNAPSHOT_SHOW) return formatDocument(value);
  const name = 'snapshot "' + value.getText(FIELD_NAME) + '"';
  if (op == OP_SNAPSHOT_CREATE) return name + " is made\n";
  if (op == OP_SNAPSHOT_RM) return name + " is removed\n";
  return 'VM "' + value.getText(FIELD_NAME) + '" is ' + value.getText(FIELD_STATE) + "\n";
}

/** How long ago a time in Unix seconds was. */
function age(created: u64): string {
  const now = wallClock();
  return created > 0 && now >= created ? duration((now - created) * 1000) : "?";
}

function formatRows(value: Value): string {
  const list = value.getList(FIELD_SNAPSHOTS);
  if (list.length == 0) return "no snapshots; snapshot create VM makes one\n";
  let out = row(["NAME", "VM", "AGE", "MEMORY", "OWN", "STATE"], WIDTHS) + "\n";
  for (let i = 0; i < list.length; i++)
    out +=
      row(
        [
          list[i].getText(FIELD_NAME),
          list[i].getText(FIELD_VM),
          age(list[i].getUint(FIELD_CREATED)),
          mib(list[i].getUint(FIELD_MEMORY)),
          mib(list[i].getUint(FIELD_OWN)),
          list[i].getText(FIELD_STATE),
        ],
        WIDTHS,
      ) + "\n";
  return out;
}

function formatDocument(value: Value): string {
  const hz = max<u64>(value.getUint(FIELD_TSC_HZ), 1);
  const ticks = value.getUint(FIELD_PAUSE_TICKS);
  const objects = value.getList(FIELD_OBJECTS);
  const note = value.getText(FIELD_NOTE);
  const base = value.getText(FIELD_BASE);
  let out =
    line("snapshot", value.getText(FIELD_NAME)) +
    line(
      "VM",
      value.getText(FIELD_VM) +
        " of tenant " +
        value.getText(FIELD_TENANT) +
        ", " +
        counted(value.getUint(FIELD_VCPUS), "vCPU"),
    ) +
    line("age", age(value.getUint(FIELD_CREATED))) +
    (note != "" ? line("note", note) : "") +
    (base != "" ? line("base", base) : "") +
    line("stood still", grouped(ticks) + " ticks, " + grouped((ticks * 1000000) / hz) + " us") +
    line(
      "made on",
      value.getText(FIELD_VENDOR) +
        ", TSC " +
        grouped(hz / 1000000) +
        " MHz, ABI version " +
        value.getUint(FIELD_ABI).toString(),
    ) +
    line("device model", value.getText(FIELD_MODEL).substring(0, 12));
  for (let i = 0; i < objects.length; i++)
    out += line(
      i == 0 ? "objects" : "",
      objects[i].getText(FIELD_KIND).padEnd(8, " ") + mib(objects[i].getUint(FIELD_PAGES) * PAGE_SIZE),
    );
  return out + wrapped("CPU features", value.getList(FIELD_FEATURES));
}
