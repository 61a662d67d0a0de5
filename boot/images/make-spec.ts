// Turns a host specification in JSON into the CBOR of the boot module `spec`.
// usage: make-spec SPEC.json OUT
import { readFileSync, writeFileSync } from "node:fs";
import { type Message, cborEncode } from "../../control/protocol/node/cbor";

const UNITS: Record<string, number> = { "": 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** Bytes of "128M" or of a plain number. */
function parseBytes(value: unknown): number {
  const match = /^(\d+)([KMG]?)$/.exec(String(value));
  if (match === null) throw new Error(`memory: "${String(value)}" is not a size like 128M`);
  return Number(match[1]) * UNITS[match[2]!]!;
}

const [source, out] = process.argv.slice(2);
if (source === undefined || out === undefined) {
  console.error("usage: make-spec SPEC.json OUT");
  process.exit(2);
}
try {
  const spec = JSON.parse(readFileSync(source, "utf8")) as Message & { vms: Message[] };
  const vms = spec.vms.map((vm) => ({ ...vm, memory: parseBytes(vm.memory) }));
  writeFileSync(out, cborEncode({ ...spec, vms }));
} catch (error) {
  console.error(`${source}: ${(error as Error).message}`);
  process.exit(1);
}
