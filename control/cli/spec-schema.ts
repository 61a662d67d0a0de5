// The JSON Schema of a specification: what `plinth schema` prints, and what files are checked by.
//
// `description` completes the sentence "it is not ..." where a value does not fit.

import { MAX_CPUS_TEXT } from "../protocol/cpus";
import { MAX_RULE_TENANTS, MAX_RULES, SHARES } from "../protocol/rules";
import * as schema from "../protocol/schema";

const { Specification } = schema;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PAGE = 4096;

/** The part of JSON Schema that is used here; schema-check.ts knows as much. */
export interface Schema {
  $schema?: string;
  $ref?: string;
  $defs?: Record<string, Schema>;
  title?: string;
  description?: string;
  default?: unknown;
  type?: "object" | "array" | "string" | "integer" | "boolean";
  enum?: readonly string[];
  const?: number | string;
  pattern?: string;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  multipleOf?: number;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  properties?: Record<string, Schema>;
  required?: readonly string[];
  additionalProperties?: boolean | Schema;
  propertyNames?: Schema;
  anyOf?: readonly Schema[];
  allOf?: readonly Schema[];
  not?: Schema;
  if?: Schema;
  then?: Schema;
}

export const BOOTS = [
  schema.BOOT_AUTO,
  schema.BOOT_LINUX,
  schema.BOOT_LINUX32,
  schema.BOOT_PVH,
  schema.BOOT_MULTIBOOT,
  schema.BOOT_MULTIBOOT2,
  schema.BOOT_FIRMWARE,
];
const POLICIES = [schema.POLICY_NEVER, schema.POLICY_ON_FAILURE, schema.POLICY_ALWAYS];

const NAME: Schema = {
  type: "string",
  pattern: `^[a-z0-9][a-z0-9._-]{0,${Specification.MAX_NAME - 1}}$`,
  description: `a name: up to ${Specification.MAX_NAME} of a-z, 0-9, "-", ".", "_", beginning with a letter or digit`,
};
const IMAGE: Schema = {
  type: "string",
  pattern: "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,55}$",
  description: "the name of an image, as 'plinth images' lists it",
};
const text = (maxLength: number): Schema => ({
  type: "string",
  maxLength,
  pattern: "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
  description: `a text of up to ${maxLength} characters without control characters`,
});
const CPU_SET: Schema = {
  type: "string",
  maxLength: MAX_CPUS_TEXT,
  pattern: "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$",
  description: "a set of the host's CPUs in rising order, like 0-3,6",
};
const count = (minimum: number, maximum: number, otherwise?: number): Schema => ({
  type: "integer",
  minimum,
  maximum,
  ...(otherwise === undefined ? {} : { default: otherwise }),
  description: `a whole number from ${minimum} to ${maximum}`,
});
const choice = (words: readonly string[]): Schema => ({ type: "string", enum: words, default: words[0] });
const yes = (otherwise: boolean): Schema => ({ type: "boolean", default: otherwise });
const list = (items: Schema, maxItems: number): Schema => ({ type: "array", items, maxItems });
const CPUS: Schema = {
  type: "string",
  maxLength: MAX_CPUS_TEXT,
  pattern: "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$",
  description: "a set of CPUs in rising order, like 0-3,6",
};
const names = (maxItems: number): Schema => ({ ...list(NAME, maxItems), uniqueItems: true });
const object = (properties: Record<string, Schema>, ...required: string[]): Schema => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

/** A size: a number of bytes, or a text with a unit. */
const size = (minimum: number, maximum: number, multipleOf: number): Schema => ({
  anyOf: [
    { type: "integer", minimum, maximum, multipleOf },
    { type: "string", pattern: "^[0-9]+ ?[KMGTkmgt]?([iI]?[bB])?$" },
  ],
  description: `a size from ${sizeText(minimum)} to ${sizeText(maximum)}${
    multipleOf > 1 ? ` in multiples of ${multipleOf} bytes` : ""
  }; write for instance 128M or 1G`,
});

function sizeText(bytes: number): string {
  if (bytes >= GIB) return `${bytes / GIB}G`;
  return bytes >= MIB ? `${bytes / MIB}M` : `${bytes}`;
}

/** Names of the fields whose value is a size. */
export const SIZES: readonly string[] = [
  schema.FIELD_MEMORY,
  schema.FIELD_BALLOON,
  schema.FIELD_SIZE,
  schema.FIELD_FLOOR,
];

const VM_FIELDS: Record<string, Schema> = {
  tenant: { ...NAME, default: schema.TENANT_DEFAULT },
  tags: names(Specification.MAX_TAGS),
  protected: yes(false),
  memory: size(2 * MIB, 256 * GIB, PAGE),
  balloon: {
    anyOf: [
      ...size(16 * MIB, 256 * GIB, PAGE).anyOf!,
      object({ size: size(16 * MIB, 256 * GIB, PAGE), floor: size(16 * MIB, 256 * GIB, PAGE) }),
    ],
    description:
      "a size, what is left to the VM, or {size, floor}: the host may take more, down to the floor",
  },
  vcpus: count(1, 16, 1),
  scheduling: choice([schema.SCHEDULING_SHARED, schema.SCHEDULING_RESERVED, schema.SCHEDULING_DEDICATED]),
  weight: count(1, 10000),
  cap: count(1, 100),
  reserve: count(1, 100),
  period: count(1, 1000, 10),
  latency: count(1, 1000, 20),
  cpus: CPU_SET,
  kernel: IMAGE,
  initrd: IMAGE,
  firmware: IMAGE,
  cmdline: text(Specification.MAX_CMDLINE),
  boot: choice(BOOTS),
  modules: list(
    object({ image: IMAGE, cmdline: text(Specification.MAX_MODULE_CMDLINE) }, "image"),
    Specification.MAX_BOOT_MODULES,
  ),
  debugExit: yes(false),
  console: choice([schema.CONSOLE_SERIAL, schema.CONSOLE_VIRTIO]),
  disks: list(
    object({ image: IMAGE, readOnly: yes(false), cdrom: yes(false) }, "image"),
    Specification.MAX_DISKS,
  ),
  networks: list(
    object(
      {
        network: NAME,
        mac: {
          type: "string",
          pattern: "^(?!00:00:00:00:00:00$)[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$",
          description: "the address of one card, like 52:54:00:12:34:56",
        },
      },
      "network",
    ),
    Specification.MAX_NETWORKS,
  ),
  ports: names(Specification.MAX_PORTS),
  rings: choice([schema.RINGS_PACKED, schema.RINGS_SPLIT]),
  node: count(0, 0xffffffff),
  start: yes(true),
  restart: object({ policy: choice(POLICIES), max: count(0, 1000, 3), window: count(1, 86400, 60) }),
  scale: object({ min: count(0, 127, 0), max: count(1, 127, 1) }),
};

const NOT_BOTH: Schema = {
  not: { required: ["kernel", "firmware"] },
  description: "one that starts from 'kernel' or from 'firmware', not both",
};
const STARTS: Schema[] = [{ required: ["memory", "kernel"] }, { required: ["memory", "firmware"] }];
const BY_FIRMWARE: Schema = {
  if: { properties: { boot: { const: schema.BOOT_FIRMWARE } }, required: ["boot"] },
  then: { required: ["firmware"] },
};
const BY_KERNEL: Schema = {
  if: { required: ["firmware"] },
  then: { properties: { boot: { enum: [schema.BOOT_AUTO, schema.BOOT_FIRMWARE] } } },
};

const vm = (more: Record<string, Schema>, starts: Schema[]): Schema => ({
  ...object({ name: NAME, ...more, ...VM_FIELDS }, "name"),
  allOf: [NOT_BOTH, { anyOf: starts }],
});

/** A VM once its profile is filled in. */
export const VM_SCHEMA: Schema = {
  ...vm({}, STARTS),
  allOf: [NOT_BOTH, { anyOf: STARTS }, BY_FIRMWARE, BY_KERNEL],
};

/** A file. */
export const HOST_SCHEMA: Schema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "Plinth host specification",
  ...object(
    {
      $schema: { type: "string" },
      version: { const: Specification.VERSION },
      host: object({ name: NAME }, "name"),
      tenants: list({ $ref: "#/$defs/tenant" }, Specification.MAX_TENANTS),
      mitigations: object({
        between: choice(schema.LEVELS),
        within: choice(schema.LEVELS),
        exits: choice(schema.LEVELS),
      }),
      rules: list({ $ref: "#/$defs/rule" }, MAX_RULES),
      profiles: { type: "object", propertyNames: NAME, additionalProperties: { $ref: "#/$defs/profile" } },
      vms: list({ $ref: "#/$defs/vm" }, Specification.MAX_VMS),
    },
    "version",
    "vms",
  ),
  $defs: {
    tenant: object(
      {
        name: NAME,
        memory: size(1, 2 ** 48, 1),
        vms: count(1, 65536),
        vcpus: count(1, 65536),
        cpus: CPUS,
        exits: count(1, 2 ** 30),
        ipis: count(1, 2 ** 30),
        hypercalls: count(1, 2 ** 30),
        log: count(1, 2 ** 30),
        cache: count(1, 100),
        bandwidth: count(1, 100),
      },
      "name",
    ),
    rule: object(
      {
        tenants: { ...names(MAX_RULE_TENANTS), minItems: 2 },
        share: { ...list({ type: "string", enum: SHARES }, SHARES.length), uniqueItems: true, minItems: 1 },
      },
      "tenants",
      "share",
    ),
    profile: object(VM_FIELDS),
    vm: vm({ profile: NAME }, [...STARTS, { required: ["profile"] }]),
  },
};
