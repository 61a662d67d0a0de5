// SHA-256 in AssemblyScript, compared with that of Node.

import { createHash, randomBytes } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { loadLibrary } from "./load";

const library = loadLibrary();

function hash(bytes: Uint8Array): string {
  library.call["hash"]!(library.put(bytes));
  return library.output(32).toString("hex");
}

test("the examples of FIPS 180", () => {
  assert.is(hash(Buffer.from("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.is(hash(new Uint8Array()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
});

test("every length up to 300 bytes, and some long ones", () => {
  for (const length of [...Array(301).keys(), 4096, 65_535]) {
    const bytes = randomBytes(length);
    assert.is(hash(bytes), createHash("sha256").update(bytes).digest("hex"), `${length} bytes`);
  }
});

test.run();
