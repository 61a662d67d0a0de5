// The JSON Schema, the checks of the tool and those of the control domain agree, on thousands of samples.

import { Validator } from "@cfworker/json-schema";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { isFields, schemaProblem } from "../../control/cli/schema-check";
import { encodeHostSpec, hostSpecOf } from "../../control/cli/spec";
import { HOST_SCHEMA } from "../../control/cli/spec-schema";
import { cborEncode, type Message } from "../../control/protocol/node/cbor";
import { ErrorCode } from "../../control/protocol/schema";
import { MIB, Rig } from "../control/domain/rig";
import { Random } from "./random";

type Fields = Record<string, unknown>;

const validator = new Validator(HOST_SCHEMA as object, "2020-12");

function full(): Fields {
  return {
    version: 1,
    host: { name: "h" },
    tenants: [{ name: "red", memory: 512 * MIB, vms: 4, vcpus: 9, cpus: "0" }, { name: "blue" }],
    mitigations: { between: "all", exits: "off" },
    rules: [{ tenants: ["red", "blue"], share: ["networks", "cores"] }],
    profiles: { small: { memory: "32M", kernel: "linux", tags: ["s"] } },
    vms: [
      {
        name: "a",
        tenant: "red",
        tags: ["web", "x"],
        protected: false,
        memory: 64 * MIB,
        balloon: "32 MiB",
        vcpus: 2,
        kernel: "linux",
        initrd: "initrd",
        cmdline: "console=ttyS0",
        boot: "linux",
        modules: [{ image: "initrd", cmdline: "x" }],
        debugExit: false,
        console: "virtio",
        disks: [{ image: "initrd", readOnly: true, cdrom: false }],
        networks: [{ network: "lan", mac: "52:54:00:12:34:56" }],
        ports: ["data"],
        rings: "split",
        start: true,
        restart: { policy: "always", max: 3, window: 60 },
        scale: { min: 0, max: 3 },
      },
      { name: "b", memory: "16M", balloon: { floor: "16M" }, firmware: "linux", boot: "auto" },
      { name: "c", profile: "small", vcpus: 1 },
    ],
  };
}

const VALUES: unknown[] = [
  0, 1, 2, 16, 17, 4096, 5000, 2 ** 20, 2 ** 21, 32 * MIB, 2 ** 38, 2 ** 39, 2 ** 50, -1, 65537,
  "", "a", "A", "linux", "firmware", "auto", "never", "serial", "virtio", "packed", "32M", "16 GiB", "5 X", "1T",
  "x".repeat(27), "x".repeat(28), "x".repeat(55), "x".repeat(56), "x".repeat(200), "x".repeat(201),
  "x".repeat(1024), "x".repeat(1025), "a\nb", "a_b-c.d", "-a", "default",
  "52:54:00:aa:BB:cc", "01:00:00:00:00:01", "00:00:00:00:00:00",
  true, false, null, [], {}, ["a"], ["a", "a"], ["a", "b", "c", "d", "e"], ["A"], [1],
  "needed", "off", "0-3,5", "3-1", "0,0", "64", "0-", ["networks", "caches"], ["red", "blue"],
  [{ image: "linux" }], [{ network: "lan" }], [{ name: "x" }], { policy: "never" }, { size: "32M", floor: 16777216 }, { name: "x" }, { a: 1 },
]; // prettier-ignore
const KEYS = [
  "name",
  "memory",
  "kernel",
  "firmware",
  "boot",
  "profile",
  "tags",
  "more",
  "image",
  "start",
  "nmae",
];

/** One change somewhere in a document. */
function mutate(random: Random, value: unknown): void {
  const places: [Fields | unknown[], string | number][] = [];
  const walk = (node: unknown): void => {
    if (Array.isArray(node)) node.forEach((item, n) => (places.push([node, n]), walk(item)));
    else if (isFields(node)) for (const key of Object.keys(node)) (places.push([node, key]), walk(node[key]));
  };
  walk(value);
  const [node, key] = places[random.below(places.length)]!;
  const choice = random.below(8);
  const list = node as Record<string | number, unknown>;
  if (choice === 0 && !Array.isArray(node)) delete node[key as string];
  else if (choice === 0) (node as unknown[]).splice(key as number, 1);
  else if (choice === 1 && !Array.isArray(node)) node[KEYS[random.below(KEYS.length)]!] = pick(random);
  else if (choice === 1)
    (node as unknown[]).push(...Array.from({ length: random.below(10) }, () => pick(random)));
  else list[key] = pick(random);
}

function pick(random: Random): unknown {
  return structuredClone(VALUES[random.below(VALUES.length)]);
}

/** What the tool says of a document; "" if it takes it. */
function toolSays(value: Fields): { problem: string; bytes: Uint8Array } {
  try {
    return { problem: "", bytes: encodeHostSpec(hostSpecOf(structuredClone(value), "file")) };
  } catch (error) {
    return { problem: (error as Error).message, bytes: new Uint8Array() };
  }
}

/** What the control domain says of the form of a document; what depends on the host is left out. */
function hostSays(rig: Rig, bytes: Uint8Array): string {
  const { refusals } = rig.plan(rig.draft(bytes));
  const form = refusals.filter(
    ({ code, message }) => code === ErrorCode.USAGE && !String(message).endsWith("two of that name"),
  );
  return form.map(({ message }) => message).join("; ");
}

/** What the control domain takes and a file may not say: an empty text for what is not there, and lists without use. */
function isLenient(value: unknown): boolean {
  return JSON.stringify(value).includes('""');
}

test("the full sample is taken by all three", () => {
  assert.is(schemaProblem(full(), HOST_SCHEMA), "");
  assert.ok(validator.validate(full()).valid);
  const { problem, bytes } = toolSays(full());
  assert.is(problem, "");
  assert.is(hostSays(new Rig(), bytes), "");
});

test("5,000 changed samples: the schema and the tool's reading of it give the same verdict", () => {
  let taken = 0;
  for (let seed = 1; seed <= 5000; seed++) {
    const random = new Random(seed);
    const value = full();
    for (let n = 1 + random.below(2); n > 0; n--) mutate(random, value);
    const ours = schemaProblem(value, HOST_SCHEMA);
    const { valid, errors } = validator.validate(value);
    assert.is(ours === "", valid, `${seed}: ${JSON.stringify(value)}: ${ours} / ${errors[0]?.error}`);
    assert.not.match(ours, /undefined|\[object/);
    if (valid) taken++;
  }
  assert.ok(taken > 500, `${taken} taken`);
});

test("1,500 changed samples: what the tool takes the control domain takes, and the other way round", () => {
  const rig = new Rig();
  let [taken, refused] = [0, 0];
  for (let seed = 1; seed <= 1500; seed++) {
    const random = new Random(seed + 10_000);
    const value = full();
    delete value.profiles;
    (value.vms as Fields[]).pop();
    mutate(random, value);
    const { problem, bytes } = toolSays(value);
    if (problem === "") {
      assert.is(hostSays(rig, bytes), "", `${seed}: ${JSON.stringify(value)}`);
      taken++;
    } else if (!isLenient(value)) {
      const raw = structuredClone(value);
      for (const vm of Array.isArray(raw.vms) ? (raw.vms as Fields[]) : [])
        if (isFields(vm)) for (const key of ["memory", "balloon"]) vm[key] = inBytes(vm[key]);
      assert.is.not(
        hostSays(rig, cborEncode(raw as Message)),
        "",
        `${seed}: ${problem}: ${JSON.stringify(raw)}`,
      );
      refused++;
    }
  }
  assert.ok(taken > 200 && refused > 500, `${taken} taken, ${refused} refused`);
});

/** What the tool makes of the sizes of the sample. */
function inBytes(value: unknown): unknown {
  const sizes: Record<string, number> = {
    "32 MiB": 32 * MIB,
    "32M": 32 * MIB,
    "16M": 16 * MIB,
    "16 GiB": 2 ** 34,
  };
  return typeof value === "string" && value in sizes ? sizes[value] : value;
}

test.run();
