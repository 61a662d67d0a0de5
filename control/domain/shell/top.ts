// `top`: a table of who uses the CPUs, drawn again and again.

import { PAGE_SIZE } from "../../gen/abi";
import { tenths, usageBetween, UsageRow, UsageSample, UsageView } from "../../protocol/usage";
import { hostNow, uptimeMs } from "../host";
import { counted, duration, fit, grouped, mib } from "../text";
import { topSample } from "../top";
import { hostNameGet } from "../vms";

/** Milliseconds between two tables. */
export const TOP_INTERVAL: u64 = 2000;
/** Lines of a table at least: its heading and one row. */
const AROUND = 4;
const CLEAR: string = "\x1b[H\x1b[2J";
const HOME: string = "\x1b[H";
const CLEAR_LINE: string = "\x1b[K";
const CLEAR_BELOW: string = "\x1b[J";

/** Right-aligned columns behind the name and the state. */
const WIDTHS: i32[] = [9, 6, 6, 6, 8];

/** Columns before the exit reasons; those for which there is no room are left out. */
const BEFORE_REASONS = 63;

function cells(first: string, second: string, numbers: string[], last: string): string {
  let out = fit(first, 12).padEnd(12, " ") + " " + second.padEnd(8, " ");
  for (let i = 0; i < numbers.length; i++) out += numbers[i].padStart(WIDTHS[i] + 1, " ");
  return last == "" ? out : out + "  " + last;
}

function rowText(row: UsageRow, tenants: bool, columns: i32): string {
  let most = "";
  for (let i = 0; i < row.reasons.length; i++) {
    const next = (i > 0 ? ", " : "") + row.reasons[i] + " " + grouped(row.rates[i]);
    if (most.length + next.length < columns - BEFORE_REASONS) most += next;
  }
  const second = tenants ? counted(row.vms, "VM") : row.state;
  const numbers: string[] = [
    mib(row.memory),
    tenths(row.run),
    tenths(row.ready),
    tenths(row.model),
    grouped(row.exits),
  ];
  return cells(row.name, second, numbers, most);
}

export class TopScreen {
  /** When it is drawn next, as uptime in ms; 0: when the terminal has answered. */
  due: u64 = 0;
  /** How often a terminal that had answered did not. */
  missed: i32 = 0;
  private before: UsageSample = new UsageSample();
  private view: UsageView = new UsageView();
  private cpus: i32 = 0;
  private over: string = "";
  private drawn: bool = false;

  constructor(private tenants: bool) {}

  /** Whether it is drawn in place, on a terminal that answers. */
  get isDrawn(): bool {
    return this.drawn;
  }

  /** The table of what happened since the last one; at first since the host's start. `rows` 0: a dumb terminal. */
  draw(rows: i32, columns: i32): string {
    const after = topSample();
    this.view = usageBetween(this.before, after);
    this.over = this.before.time == 0 ? "since its start" : "over " + seconds(this.view.interval);
    this.cpus = after.cpus;
    this.before = after;
    this.due = uptimeMs() + TOP_INTERVAL;
    return this.table(rows, columns);
  }

  /** The same of tenants, or of VMs again. */
  toggle(rows: i32, columns: i32): string {
    this.tenants = !this.tenants;
    return this.table(rows, columns);
  }

  private table(rows: i32, columns: i32): string {
    const all = this.lines(columns > 0 ? columns : 80);
    return rows > 0 ? this.place(all, rows, columns) : all.join("\n") + "\n\n";
  }

  private lines(columns: i32): string[] {
    const host = hostNow();
    const view = this.view;
    const out: string[] = [
      hostNameGet() +
        ", up " +
        duration(uptimeMs()) +
        "; " +
        this.over +
        " of " +
        counted(this.cpus, "CPU") +
        "; t: " +
        (this.tenants ? "VMs" : "tenants") +
        ", any other key leaves",
      tenths(view.vms) +
        " % VMs, " +
        tenths(view.models) +
        " % models, " +
        tenths(view.host) +
        " % host, " +
        tenths(view.idle) +
        " % idle; " +
        grouped((host.free_pages * PAGE_SIZE) >> 20) +
        " of " +
        mib(host.total_pages * PAGE_SIZE) +
        " free",
      cells(
        this.tenants ? "TENANT" : "NAME",
        this.tenants ? "VMS" : "STATE",
        ["MEMORY", "RUN%", "READY%", "MODEL%", "EXITS/S"],
        this.tenants ? "" : "MOST EXITS",
      ),
    ];
    const list = this.tenants ? view.tenants : view.rows;
    for (let i = 0; i < list.length; i++) out.push(rowText(list[i], this.tenants, columns));
    return out;
  }

  /** Draws over what is there, as much as there is room for. */
  private place(all: string[], rows: i32, columns: i32): string {
    const room = max(rows - 1, AROUND);
    let out = this.drawn ? HOME : CLEAR;
    for (let i = 0; i < all.length && i < room; i++) {
      const rest = all.length - i;
      const text = i == room - 1 && rest > 1 ? "... " + rest.toString() + " more" : all[i];
      out += fit(text, min(columns, 200) - 1) + CLEAR_LINE + "\n";
    }
    this.drawn = true;
    return out + CLEAR_BELOW;
  }
}

/** Microseconds as seconds: "2.0 s". */
function seconds(time: i64): string {
  return tenths(time / 100000) + " s";
}
