// Who has made a snapshot's file: Ed25519 signatures, this user's key, and the keys that the user trusts.

import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as signBytes,
  verify as verifyBytes,
} from "node:crypto";
import { join } from "node:path";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { type Environment, readIfThere, settingsFolder, writePrivate } from "./settings";

export const KEY_SIZE = 32;
export const SIGNATURE_SIZE = 64;
/** In front of what is signed: a signature for this is none for anything else. */
const PURPOSE = Buffer.from("plinth snapshot manifest, format 1\0");
const PREFIX = "ed25519:";

/** A public key as people pass it on: "ed25519:" and 64 hexadecimal digits. */
export function keyText(key: Uint8Array): string {
  return PREFIX + Buffer.from(key).toString("hex");
}

/** The key in a text of that form, or in a PEM file's text; undefined: neither. */
function parseKey(text: string): Uint8Array | undefined {
  const match = /^ed25519:([0-9a-f]{64})$/i.exec(text.trim());
  if (match) return Buffer.from(match[1]!, "hex");
  if (!text.includes("BEGIN PUBLIC KEY")) return undefined;
  try {
    const key = createPublicKey(text);
    return key.asymmetricKeyType === "ed25519" ? rawKey(key) : undefined;
  } catch {
    return undefined;
  }
}

function rawKey(key: KeyObject): Uint8Array {
  return Buffer.from(key.export({ format: "jwk" }).x!, "base64url");
}

function publicKey(raw: Uint8Array): KeyObject {
  const x = Buffer.from(raw).toString("base64url");
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
}

/** Whether `key` has signed `digest`. */
export function isSigned(digest: Uint8Array, key: Uint8Array, signature: Uint8Array): boolean {
  if (key.length !== KEY_SIZE || signature.length !== SIGNATURE_SIZE) return false;
  try {
    return verifyBytes(null, Buffer.concat([PURPOSE, digest]), publicKey(key), signature);
  } catch {
    return false;
  }
}

/** This user's key, and those of others that the user trusts. */
export class Keys {
  private readonly env: Environment;
  private readonly trusted = new Set<string>();
  private own: KeyObject | undefined;

  constructor(env: Environment) {
    this.env = env;
    for (const line of (readIfThere(this.trustFile) ?? "").split("\n")) {
      const text = line.trim().split(/\s/, 1)[0]!;
      if (text !== "" && !text.startsWith("#")) this.trusted.add(keyText(readKey(text, this.trustFile)));
    }
  }

  get file(): string {
    return join(settingsFolder(this.env), "snapshot-key.pem");
  }

  get trustFile(): string {
    return join(settingsFolder(this.env), "trusted-keys");
  }

  /** The public half of this user's key, which is made when it is needed first. */
  get publicKey(): Uint8Array {
    return rawKey(createPublicKey(this.privateKey));
  }

  get publicPem(): string {
    return createPublicKey(this.privateKey).export({ format: "pem", type: "spki" }).toString();
  }

  /** What is trusted beside the user's own. */
  get others(): string[] {
    return [...this.trusted];
  }

  sign(digest: Uint8Array): Uint8Array {
    return signBytes(null, Buffer.concat([PURPOSE, digest]), this.privateKey);
  }

  isTrusted(key: Uint8Array): boolean {
    return this.trusted.has(keyText(key)) || keyText(key) === keyText(this.publicKey);
  }

  /** Trusts a key, given as text or as a PEM file, for this run. */
  trust(given: string): Uint8Array {
    const key = readKey(given);
    this.trusted.add(keyText(key));
    return key;
  }

  /** Trusts it from now on. */
  remember(given: string): Uint8Array {
    const key = this.trust(given);
    writePrivate(this.trustFile, `${this.others.join("\n")}\n`);
    return key;
  }

  private get privateKey(): KeyObject {
    this.own ??= this.readOwn();
    return this.own;
  }

  private readOwn(): KeyObject {
    const text = readIfThere(this.file);
    if (text === undefined) {
      const { privateKey } = generateKeyPairSync("ed25519");
      writePrivate(this.file, privateKey.export({ format: "pem", type: "pkcs8" }).toString());
      return privateKey;
    }
    try {
      const key = createPrivateKey(text);
      if (key.asymmetricKeyType === "ed25519") return key;
    } catch {
      // Said below.
    }
    const message = `${this.file} is no Ed25519 private key`;
    throw new PlinthError({
      code: ErrorCode.FAILED,
      message,
      object: this.file,
      next: "plinth help snapshot keys",
    });
  }
}

function readKey(given: string, where = "--trust"): Uint8Array {
  const text = given.startsWith(PREFIX) ? given : readIfThere(given);
  if (text === undefined)
    throw usageError(`${where}: there is no file ${given}`, "plinth help snapshot keys");
  const key = parseKey(text);
  if (key === undefined)
    throw usageError(`${where}: '${given}' is no Ed25519 public key`, "plinth help snapshot keys");
  return key;
}
