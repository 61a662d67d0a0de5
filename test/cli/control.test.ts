// plinth control upgrade, with the shipping control domain.

import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Role } from "../../control/gen/abi";
import { modelImage } from "../control/domain/image";
import { ModelHost } from "./model-host";
import { runCli, startCli, until } from "./run-cli";

const test = suite<{ host: ModelHost; folder: string; file: (bytes: Uint8Array) => string }>("control");

const wasm = new Uint8Array(readFileSync("build/control.wasm"));
const next = modelImage(wasm, { tail: Buffer.from("next") });
const short = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex").slice(0, 12);

test.before.each(async (context) => {
  context.host = new ModelHost({ control: modelImage(wasm, { tail: Buffer.from("module") }) });
  await context.host.start();
  context.folder = mkdtempSync(join(tmpdir(), "plinth-image-"));
  let count = 0;
  context.file = (bytes) => {
    const path = join(context.folder, `image-${count++}`);
    writeFileSync(path, bytes);
    return path;
  };
});
test.after.each(async ({ host, folder }) => {
  await host.stop();
  rmSync(folder, { recursive: true });
});

test("a file takes over, an open console goes on, and status and audit tell of it", async ({
  host,
  file,
}) => {
  const console = startCli(host, ["console", "a"], { tty: true });
  await until(() => console.stdout().includes("model up"), "scroll-back");
  const { code, stderr } = await runCli(host, ["control", "upgrade", file(next)]);
  assert.is(code, 0, stderr);
  assert.match(stderr, new RegExp(`^control image ${short(next)} is up, in place of ${short(wasm)}\n$`));
  console.stdin.write("again\r");
  await until(() => console.stdout().includes("you said: again"), "the console goes on");
  console.stdin.write("\x1d");
  assert.is((await console.result).code, 0);
  assert.match((await runCli(host, ["status"])).stdout, new RegExp(`image ${short(next)}, 1 restart\n`));
  const { stdout } = await runCli(host, ["audit"]);
  assert.match(stdout, / cli +upgrade /);
  assert.match(stdout, new RegExp(`control-confirmed +control image ${short(next)} is up, and stays`));
  assert.is((await runCli(host, ["audit", "verify"])).code, 0);
});

test("a boot module takes over", async ({ host }) => {
  const { code, stdout } = await runCli(host, ["control", "upgrade", "control-new", "--json"]);
  assert.is(code, 0);
  assert.match(JSON.parse(stdout).image, /^[0-9a-f]{64}$/);
  assert.is((await runCli(host, ["control", "upgrade", "nothing"])).code, 3);
});

test("an image that traps is told of with its reason", async ({ host, file }) => {
  const image = file(modelImage(new Uint8Array(readFileSync("build/components/image-traps.wasm"))));
  const { code, stderr } = await runCli(host, ["control", "upgrade", image]);
  assert.is(code, 1);
  assert.match(stderr, /failed, [0-9a-f]{12} is back; found 2 VMs; trap: this image traps @ /);
  assert.match(stderr, /next: plinth logs/);
  assert.is((await runCli(host, ["control", "upgrade", file(next)])).code, 0);
});

test("what is no control image is refused before it is sent", async ({ host, file }) => {
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(3), /is no component of Plinth/],
    [new Uint8Array(1000), /is no component of Plinth/],
    [modelImage(wasm, { abi: 7 }), /is built for ABI version 7, this plinth is of \d/],
    [modelImage(wasm, { role: Role.DEVICE_MODEL }), /is a component, but no control component/],
    [next.subarray(0, 1000), /is truncated: it has 1000 of its \d+ bytes/],
    [
      modelImage(wasm, { tail: new Uint8Array(1 << 20) }),
      /has \d+ bytes, a control component has at most 1048576/,
    ],
  ];
  for (const [bytes, why] of cases) {
    const { code, stderr } = await runCli(host, ["control", "upgrade", file(bytes)]);
    assert.is(code, 7);
    assert.match(stderr, why);
  }
  assert.ok(!host.asked.includes("image.put"));
});

test("a trap during the upload: it is sent again", async ({ host, file }) => {
  const running = startCli(host, ["control", "upgrade", file(next)]);
  await until(() => host.asked.filter((op) => op === "image.put").length > 20, "half of the upload");
  await runCli(host, ["test", "trap"]);
  const { code, stderr } = await running.result;
  assert.is(code, 0, stderr);
});

test.run();
