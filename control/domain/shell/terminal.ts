// What terminal the person has: asked by a cursor position report, with a limit of time; one that does not answer is dumb.

/** Moves to the far corner, asks where that is, and comes back. */
const QUESTION: string = "\x1b7\x1b[999;999H\x1b[6n\x1b8";
const ANSWER_MS: u64 = 500;
const MIN_ROWS: i32 = 4;
const MIN_COLUMNS: i32 = 20;
const MAX_SIZE: i32 = 9999;
const ESC: u32 = 27;
/** An answer that is longer is none. */
const MAX_ANSWER = 16;

/* Where in ESC [ rows ; columns R the input is. */
const enum Place {
  NONE = 0,
  ESC = 1,
  ROWS = 2,
  COLUMNS = 3,
}

export class Terminal {
  /** Its size; 0: it is dumb, or was not asked. */
  rows: i32 = 0;
  columns: i32 = 0;
  /** Whether it did not answer when it was asked last. */
  silent: bool = false;
  /** Until when its answer is awaited, as uptime in ms; 0: it is not. */
  deadline: u64 = 0;
  private place: Place = Place.NONE;
  private first: i32 = 0;
  private second: i32 = 0;
  /** What may be the beginning of an answer. */
  private held: u32[] = [];

  /** What to send to ask it. */
  ask(now: u64): string {
    this.deadline = now + ANSWER_MS;
    return QUESTION;
  }

  get asked(): bool {
    return this.deadline != 0;
  }

  /** A received byte. Returns those that are no answer; the answer itself is taken. */
  take(byte: u32): u32[] {
    if (byte == ESC) this.silent = false;
    if (!this.asked) return [byte];
    this.held.push(byte);
    if (this.held.length > MAX_ANSWER || !this.step(byte)) {
      const mismatch = this.release();
      // An escape begins anew, whatever was before it.
      if (byte == ESC && mismatch.length > 1) {
        mismatch.pop();
        this.held.push(byte);
        this.place = Place.ESC;
      }
      return mismatch;
    }
    return [];
  }

  /** Gives up an answer that does not come. Returns what was held back for it. */
  tick(now: u64): u32[] {
    if (!this.asked || now < this.deadline) return [];
    this.deadline = 0;
    this.silent = true;
    this.rows = 0;
    this.columns = 0;
    return this.release();
  }

  private release(): u32[] {
    const out = this.held;
    this.held = [];
    this.place = Place.NONE;
    return out;
  }

  /** False: these bytes are no answer. */
  private step(byte: u32): bool {
    const digit = <i32>byte - 0x30;
    if (this.place == Place.NONE) {
      this.place = Place.ESC;
      return byte == ESC;
    }
    if (this.place == Place.ESC) {
      this.place = Place.ROWS;
      this.first = 0;
      this.second = 0;
      return byte == 0x5b;
    }
    if (digit >= 0 && digit <= 9) {
      if (this.place == Place.ROWS) this.first = min(this.first * 10 + digit, MAX_SIZE);
      else this.second = min(this.second * 10 + digit, MAX_SIZE);
      return true;
    }
    if (this.place == Place.ROWS && byte == 0x3b) {
      this.place = Place.COLUMNS;
      return true;
    }
    if (this.place != Place.COLUMNS || byte != 0x52) return false;
    this.answered();
    return true;
  }

  private answered(): void {
    this.release();
    this.deadline = 0;
    this.silent = false;
    const good = this.first >= MIN_ROWS && this.second >= MIN_COLUMNS;
    this.rows = good ? this.first : 0;
    this.columns = good ? this.second : 0;
  }
}
