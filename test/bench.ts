// Measures what Plinth costs and prints it beside the budgets of the architecture.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { linuxRows } from "./bench/linux";
import type { Row } from "./bench/row";
import { snapshotRows } from "./bench/snapshot";
import { startRow } from "./bench/start";
import { amdTicks, interruptRows, jitterRows, systemRows } from "./bench/system";

/** Source lines of a folder's C and assembly, comments and blank lines not counted. */
function countLines(folder: string): number {
  const sources = readdirSync(folder).filter((name) => /\.(c|h|S|def)$/.test(name));
  return sources.reduce((total, name) => {
    const strip = ["-fpreprocessed", "-dD", "-E", "-P", "-x", "c", join(folder, name)];
    const text = execFileSync("gcc", strip, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return total + text.split("\n").filter((line) => line.trim() !== "").length;
  }, 0);
}

function sizeRow(what: string, path: string): Row {
  const measured = existsSync(path) ? `${Math.ceil(statSync(path).size / 1024)} KiB` : "not built";
  return { what, measured, budget: "" };
}

/** What can be read off the files. */
function staticRows(): Row[] {
  return [
    { what: "kernel, lines of source", measured: String(countLines("kernel")), budget: "6500" },
    { what: "boot path, lines of source", measured: String(countLines("boot")), budget: "" },
    sizeRow("kernel with symbols", join("build", "kernel.elf")),
    sizeRow("control domain", join("build", "control.bin")),
    sizeRow("device model", join("build", "device-model.bin")),
    sizeRow("command line tool", join("build", "plinth.cjs")),
    sizeRow("boot image", join("build", "plinth.iso")),
  ];
}

function printRows(rows: Row[], head: Row): void {
  const table = [head, ...rows];
  const keys = (["measured", "amd", "budget"] as const).filter((key) => head[key] !== undefined);
  const width = (key: keyof Row): number => Math.max(...table.map((row) => (row[key] ?? "").length));
  for (const row of table) {
    const cells = keys.map((key) => (row[key] ?? "").padStart(width(key)));
    console.log([row.what.padEnd(width("what")), ...cells].join("  "));
  }
}

async function main(): Promise<void> {
  process.env.PLINTH_RIG = "bochs"; // whose clock counts instructions
  printRows(staticRows(), { what: "what", measured: "measured", budget: "budget" });
  const columns = { what: "what", measured: "VT-x", amd: "AMD-V", budget: "budget" };
  console.log("\nIn seconds: VT-x in Bochs, AMD-V in QEMU without KVM:");
  printRows([await startRow()], columns);
  const amd = await amdTicks();
  const rows = [
    ...(await systemRows(amd)),
    ...(await interruptRows(amd)),
    ...(await jitterRows()),
    ...(await linuxRows()),
    ...(await snapshotRows()),
  ];
  console.log("\nIn instructions, one CPU: VT-x under Bochs, AMD-V under QEMU's -icount.");
  console.log("Not measured on AMD-V: what has no figure there; it has no APIC virtualization.");
  printRows(rows, columns);
}

main().catch((error: Error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
