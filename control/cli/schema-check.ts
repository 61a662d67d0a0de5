// Checks a value against a JSON Schema, and says what is wrong with it where.

import { nearest } from "./nearest";
import type { Schema } from "./spec-schema";

/** The first problem, as the rest of a sentence that begins with what was checked; "" if there is none. */
export function schemaProblem(value: unknown, schema: Schema, root: Schema = schema): string {
  return new Checker(root).check(value, schema, "");
}

type Fields = Record<string, unknown>;

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** A value as a message shows it. */
function shown(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

class Checker {
  private readonly root: Schema;

  constructor(root: Schema) {
    this.root = root;
  }

  /** `at` is the path of the value: "vms[2].memory". */
  check(value: unknown, given: Schema, at: string): string {
    const schema = this.resolve(given);
    return (
      this.checkType(value, schema, at) ||
      this.checkScalar(value, schema, at) ||
      this.checkList(value, schema, at) ||
      this.checkFields(value, schema, at) ||
      this.checkCombined(value, schema, at)
    );
  }

  private resolve(schema: Schema): Schema {
    return schema.$ref ? this.root.$defs![schema.$ref.replace("#/$defs/", "")]! : schema;
  }

  private checkType(value: unknown, { type }: Schema, at: string): string {
    if (type === "object" && !isFields(value)) return `${name(at)} is no object with fields`;
    if (type === "array" && !Array.isArray(value)) return `${name(at)} is no list`;
    if (type === "string" && typeof value !== "string") return `${name(at)} is no text`;
    if (type === "boolean" && typeof value !== "boolean") return `${name(at)} is neither true nor false`;
    if (type === "integer" && !Number.isSafeInteger(value)) return `${name(at)} is no whole number`;
    return "";
  }

  private checkScalar(value: unknown, schema: Schema, at: string): string {
    if (schema.const !== undefined && value !== schema.const)
      return `${name(at)} is ${shown(value)}, it must be ${schema.const}`;
    if (schema.enum && !schema.enum.includes(value as string))
      return `${at} '${shown(value)}' is none of ${schema.enum.join(", ")}`;
    const fits =
      typeof value === "string"
        ? [...value].length <= (schema.maxLength ?? Infinity) &&
          (!schema.pattern || new RegExp(schema.pattern, "u").test(value))
        : typeof value !== "number" ||
          (value >= (schema.minimum ?? -Infinity) &&
            value <= (schema.maximum ?? Infinity) &&
            value % (schema.multipleOf ?? 1) === 0);
    return fits ? "" : notSo(value, schema, at);
  }

  private checkList(value: unknown, schema: Schema, at: string): string {
    if (!Array.isArray(value)) return "";
    if (value.length > (schema.maxItems ?? Infinity))
      return `${name(at)} has more than ${schema.maxItems} items`;
    if (value.length < (schema.minItems ?? 0)) return `${name(at)} has fewer than ${schema.minItems} items`;
    for (const [n, item] of value.entries()) {
      if (schema.uniqueItems && value.indexOf(item) !== n) return `${name(at)} has '${shown(item)}' twice`;
      const problem = schema.items ? this.check(item, schema.items, `${at}[${n}]`) : "";
      if (problem) return problem;
    }
    return "";
  }

  private checkFields(value: unknown, schema: Schema, at: string): string {
    if (!isFields(value)) return "";
    const known = schema.properties ?? {};
    for (const key of Object.keys(value)) {
      const problem = this.checkField(value, key, schema, at);
      if (problem) return problem;
    }
    for (const key of schema.required ?? []) {
      if (value[key] === undefined) return `${within(at)}'${key}' is missing`;
    }
    for (const [key, field] of Object.entries(known)) {
      if (value[key] === undefined) continue;
      const problem = this.check(value[key], field, at ? `${at}.${key}` : key);
      if (problem) return problem;
    }
    return "";
  }

  /** Whether a field may be there. */
  private checkField(value: Fields, key: string, schema: Schema, at: string): string {
    const { properties = {}, additionalProperties: more, propertyNames } = schema;
    if (Object.hasOwn(properties, key)) return "";
    if (propertyNames) {
      const problem = this.check(key, propertyNames, at);
      if (problem) return problem;
    }
    if (typeof more === "object") return this.check(value[key], more, at ? `${at}.${key}` : key);
    if (more !== false) return "";
    const meant = nearest(key, Object.keys(properties));
    return `${within(at)}unknown field '${key}'${meant ? `; did you mean '${meant}'?` : ""}`;
  }

  private checkCombined(value: unknown, schema: Schema, at: string): string {
    for (const part of schema.allOf ?? []) {
      const problem = this.check(value, part, at);
      if (problem) return problem;
    }
    if (schema.not && !this.check(value, schema.not, at)) return `${name(at)} is not ${schema.description}`;
    if (schema.if && schema.then && !this.check(value, schema.if, at)) {
      const problem = this.check(value, schema.then, at);
      if (problem) return problem;
    }
    if (!schema.anyOf || schema.anyOf.some((part) => !this.check(value, part, at))) return "";
    if (schema.description || !isFields(value)) return notSo(value, schema, at);
    return `${within(at)}'${missing(value, schema.anyOf)}' is missing`;
  }
}

/** The field to add: of the alternative of which most is there. */
function missing(value: Fields, alternatives: readonly Schema[]): string {
  const there = (part: Schema): number => part.required!.filter((key) => value[key] !== undefined).length;
  const best = alternatives.reduce((one, other) => (there(other) > there(one) ? other : one));
  return best.required!.find((key) => value[key] === undefined)!;
}

function notSo(value: unknown, schema: Schema, at: string): string {
  return `${at} '${shown(value)}' is not ${schema.description ?? "allowed"}`;
}

function name(at: string): string {
  return at ? `'${at}'` : "it";
}

function within(at: string): string {
  return at ? `${at}: ` : "";
}
