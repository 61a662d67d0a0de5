// Builds an image of the files that the Makefile has made.
// usage: make-image -o OUT.iso [--options KERNEL-COMMAND-LINE] KERNEL [NAME=]FILE...
// A module's name is its file's, without .bin, .cbor, .cpio and .img; the control domain and the device model come first.
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { type BootModule, buildMedium } from "./image";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    output: { type: "string", short: "o" },
    options: { type: "string", default: "" },
  },
});

function parseModule(word: string): BootModule {
  const [first, second] = word.split("=");
  return second === undefined
    ? { name: basename(first!).replace(/\.(bin|cbor|cpio|img)$/, ""), path: first! }
    : { name: first!, path: second };
}

const [kernel, ...modules] = positionals;
if (kernel === undefined || values.output === undefined) {
  console.error("usage: make-image -o OUT.iso [--options LINE] KERNEL [NAME=]FILE...");
  process.exit(2);
}
try {
  const plan = { kernel, options: values.options!, modules: modules.map(parseModule) };
  buildMedium({ ...plan, menuSeconds: null }, values.output);
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
