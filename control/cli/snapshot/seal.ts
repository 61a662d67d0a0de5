// Encryption of snapshots' files: ChaCha20-Poly1305 with a key for each file, so that no nonce is used twice under a key.

import {
  createCipheriv,
  createDecipheriv,
  hkdfSync,
  randomBytes,
  scryptSync,
  timingSafeEqual,
} from "node:crypto";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { ErrorCode, PlinthError } from "../errors";

const CIPHER = "chacha20-poly1305";
export const SALT_SIZE = 32;
export const TAG_SIZE = 16;
const KEY_SIZE = 32;
const CHECK_SIZE = 8;
/** The cost of guessing a passphrase: 64 MiB and some 100 ms for each guess. */
const SCRYPT = { N: 1 << 16, r: 8, p: 1, maxmem: 128 << 20 };
const MIN_PASSPHRASE = 8;

/** How a file's secret becomes its key. */
export type Derivation = "key" | "scrypt";

/** What the administrator has, of which each file's key is made. */
export class Secret {
  readonly derivation: Derivation;
  private readonly bytes: Uint8Array;
  private readonly stretched = new Map<string, Uint8Array>();

  constructor(derivation: Derivation, bytes: Uint8Array) {
    this.derivation = derivation;
    this.bytes = bytes;
  }

  /** The secret as 32 bytes; `salt` matters to passphrases. */
  stretch(salt: Uint8Array): Uint8Array {
    if (this.derivation === "key") return this.bytes;
    const name = Buffer.from(salt).toString("hex");
    const key = this.stretched.get(name) ?? scryptSync(this.bytes, salt, KEY_SIZE, SCRYPT);
    this.stretched.set(name, key);
    return key;
  }
}

/** The key of one file: of the secret, the file's own salt and all else that its header says. */
export class FileKey {
  private readonly key: Uint8Array;
  /** Tells a wrong key from a damaged file. */
  readonly check: Uint8Array;

  constructor(secret: Secret, stretchSalt: Uint8Array, fileSalt: Uint8Array) {
    const derive = (info: string, size: number): Uint8Array =>
      new Uint8Array(hkdfSync("sha256", secret.stretch(stretchSalt), fileSalt, info, size));
    this.key = derive("plinth snapshot: records", KEY_SIZE);
    this.check = derive("plinth snapshot: check", CHECK_SIZE);
  }

  fits(check: Uint8Array): boolean {
    return check.length === CHECK_SIZE && timingSafeEqual(check, this.check);
  }

  /** `number` is that of the record, and the nonce; `head` is not hidden, but cannot be changed. */
  seal(number: number, head: Uint8Array, payload: Uint8Array): Uint8Array {
    const cipher = createCipheriv(CIPHER, this.key, nonce(number), { authTagLength: TAG_SIZE });
    cipher.setAAD(head, { plaintextLength: payload.length });
    return Buffer.concat([cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
  }

  /** The payload; null when it is not what was sealed. */
  open(number: number, head: Uint8Array, body: Uint8Array): Uint8Array | null {
    if (body.length < TAG_SIZE) return null;
    const end = body.length - TAG_SIZE;
    const decipher = createDecipheriv(CIPHER, this.key, nonce(number), { authTagLength: TAG_SIZE });
    decipher.setAAD(head, { plaintextLength: end });
    decipher.setAuthTag(body.subarray(end));
    try {
      return Buffer.concat([decipher.update(body.subarray(0, end)), decipher.final()]);
    } catch {
      return null;
    }
  }
}

function nonce(number: number): Uint8Array {
  const bytes = Buffer.alloc(12);
  bytes.writeBigUInt64LE(BigInt(number));
  return bytes;
}

/** The secret in a file: 64 hexadecimal digits, as makeKeyFile() writes them. */
export function readKeyFile(file: string): Secret {
  const text = readSecretFile(file).toString("latin1").trim();
  if (!/^[0-9a-f]{64}$/i.test(text))
    throw unusable(
      file,
      "is no key: it has to have 64 hexadecimal digits",
      `plinth snapshot keys --make ${file}.new`,
    );
  return new Secret("key", Buffer.from(text, "hex"));
}

/** A passphrase is a file's first line. */
export function readPassphraseFile(file: string): Secret {
  const line = readSecretFile(file).toString("utf8").split(/\r?\n/, 1)[0]!;
  if (line.length < MIN_PASSPHRASE)
    throw unusable(
      file,
      `has a passphrase of less than ${MIN_PASSPHRASE} characters`,
      "plinth help snapshot export",
    );
  return new Secret("scrypt", Buffer.from(line.normalize("NFC")));
}

/** Writes a new key that only the user can read; never over something. */
export function makeKeyFile(file: string): void {
  let fd: number;
  try {
    fd = openSync(file, "wx", 0o600);
  } catch (error) {
    throw unusable(file, `cannot be made: ${(error as Error).message}`, "plinth help snapshot keys");
  }
  writeSync(fd, `${randomBytes(KEY_SIZE).toString("hex")}\n`);
  closeSync(fd);
}

function readSecretFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw unusable(file, `cannot be read: ${(error as Error).message}`, "plinth help snapshot keys");
  }
}

function unusable(file: string, what: string, next: string): PlinthError {
  return new PlinthError({ code: ErrorCode.USAGE, message: `${file} ${what}`, object: file, next });
}
