// Measures what Plinth costs and prints it beside the budgets of the architecture.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { type Row, systemRows } from "./bench/system";

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

function printRows(rows: Row[]): void {
  const table = [{ what: "what", measured: "measured", budget: "budget" }, ...rows];
  const width = (key: keyof Row): number => Math.max(...table.map((row) => row[key].length));
  for (const row of table) {
    const cells = [row.what.padEnd(width("what")), row.measured.padStart(width("measured"))];
    console.log([...cells, row.budget.padStart(width("budget"))].join("  "));
  }
}

async function main(): Promise<void> {
  printRows(staticRows());
  console.log("\nIn instructions, one CPU, under Bochs; its clock counts instructions:");
  printRows(await systemRows());
}

main().catch((error: Error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
