// Turns a host specification in JSON into the CBOR of the boot module `spec`.
// usage: make-spec SPEC.json OUT
import { writeFileSync } from "node:fs";
import { encodeHostSpec, readHostSpec } from "../../control/cli/spec";

const [source, out] = process.argv.slice(2);
if (source === undefined || out === undefined) {
  console.error("usage: make-spec SPEC.json OUT");
  process.exit(2);
}
try {
  writeFileSync(out, encodeHostSpec(readHostSpec(source)));
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
