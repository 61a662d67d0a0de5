// A line editor for any terminal: it moves with backspaces and by printing again, never with escape codes.

export const enum Key {
  NONE = 0,
  ENTER = 1,
  TAB = 2,
  INTERRUPT = 3,
  END_OF_INPUT = 4,
  REDRAW = 5,
}

const enum Ascii {
  CTRL_A = 1,
  CTRL_B = 2,
  CTRL_C = 3,
  CTRL_D = 4,
  CTRL_E = 5,
  CTRL_F = 6,
  BELL = 7,
  BACKSPACE = 8,
  TAB = 9,
  LF = 10,
  CTRL_K = 11,
  CTRL_L = 12,
  CR = 13,
  CTRL_N = 14,
  CTRL_P = 16,
  CTRL_U = 21,
  CTRL_W = 23,
  ESC = 27,
  SPACE = 32,
  DELETE = 127,
}

const MAX_LINE = 1400;
const MAX_HISTORY = 50;

/* Where in an escape sequence the input is. */
const enum Escape {
  NONE = 0,
  ESC = 1,
  CSI = 2,
  SS3 = 3,
}

export class Editor {
  line: string = "";
  private cursor: i32 = 0;
  private history: string[] = [];
  private place: i32 = 0;
  private draft: string = "";
  private escape: Escape = Escape.NONE;
  private parameter: i32 = 0;
  private afterCr: bool = false;

  constructor(private print: (text: string) => void) {}

  /** Takes a byte; returns what the shell has to do about it. */
  take(byte: u32): Key {
    if (this.escape != Escape.NONE) {
      this.takeEscape(byte);
      return Key.NONE;
    }
    const lineFeed = byte == Ascii.LF && this.afterCr;
    this.afterCr = byte == Ascii.CR;
    if (lineFeed) return Key.NONE;
    switch (byte) {
      case Ascii.CR:
      case Ascii.LF:
        return Key.ENTER;
      case Ascii.TAB:
        return Key.TAB;
      case Ascii.CTRL_C:
        return Key.INTERRUPT;
      case Ascii.CTRL_D:
        if (this.line == "") return Key.END_OF_INPUT;
        this.deleteForward();
        break;
      case Ascii.CTRL_L:
        return Key.REDRAW;
      case Ascii.ESC:
        this.escape = Escape.ESC;
        break;
      case Ascii.BACKSPACE:
      case Ascii.DELETE:
        this.replace(this.cursor - 1, this.cursor, "");
        break;
      case Ascii.CTRL_A:
        this.moveTo(0);
        break;
      case Ascii.CTRL_E:
        this.moveTo(this.line.length);
        break;
      case Ascii.CTRL_B:
        this.moveTo(this.cursor - 1);
        break;
      case Ascii.CTRL_F:
        this.moveTo(this.cursor + 1);
        break;
      case Ascii.CTRL_U:
        this.replace(0, this.cursor, "");
        break;
      case Ascii.CTRL_K:
        this.replace(this.cursor, this.line.length, "");
        break;
      case Ascii.CTRL_W:
        this.deleteWord();
        break;
      case Ascii.CTRL_P:
        this.recall(this.place - 1);
        break;
      case Ascii.CTRL_N:
        this.recall(this.place + 1);
        break;
      default:
        if (byte >= <u32>Ascii.SPACE && byte < <u32>Ascii.DELETE) this.insert(String.fromCharCode(byte));
    }
    return Key.NONE;
  }

  /** Inserts text at the cursor. */
  insert(text: string): void {
    if (this.line.length + text.length > MAX_LINE) this.print("\x07");
    else this.replace(this.cursor, this.cursor, text);
  }

  /** What is before the cursor. */
  get before(): string {
    return this.line.substring(0, this.cursor);
  }

  /** Prints line and cursor again, after something else was printed. */
  redraw(): void {
    this.print(this.line);
    this.back(this.line.length - this.cursor);
  }

  /** Takes the line as it is, keeps it in the history and starts a new one. */
  finish(): string {
    const line = this.line;
    const known = this.history.length > 0 && this.history[this.history.length - 1] == line;
    if (line.trim() != "" && !known) this.history.push(line);
    if (this.history.length > MAX_HISTORY) this.history.shift();
    this.clear();
    return line;
  }

  /** Forgets the line without printing anything. */
  clear(): void {
    this.line = "";
    this.cursor = 0;
    this.place = this.history.length;
    this.draft = "";
  }

  private takeEscape(byte: u32): void {
    const state = this.escape;
    if (state == Escape.ESC && (byte == 0x5b || byte == 0x4f)) {
      this.escape = byte == 0x5b ? Escape.CSI : Escape.SS3;
      this.parameter = 0;
      return;
    }
    if (state == Escape.CSI && ((byte >= 0x30 && byte <= 0x39) || byte == 0x3b)) {
      if (byte != 0x3b && this.parameter < 100) this.parameter = this.parameter * 10 + (byte - 0x30);
      return;
    }
    if (byte == Ascii.ESC) {
      this.escape = Escape.ESC;
      return;
    }
    this.escape = Escape.NONE;
    if (state == Escape.ESC) return;
    switch (byte) {
      case 0x41 /* A: up */:
        this.recall(this.place - 1);
        break;
      case 0x42 /* B: down */:
        this.recall(this.place + 1);
        break;
      case 0x43 /* C: right */:
        this.moveTo(this.cursor + 1);
        break;
      case 0x44 /* D: left */:
        this.moveTo(this.cursor - 1);
        break;
      case 0x48 /* H: home */:
        this.moveTo(0);
        break;
      case 0x46 /* F: end */:
        this.moveTo(this.line.length);
        break;
      case 0x7e /* ~: by number */:
        if (this.parameter == 1 || this.parameter == 7) this.moveTo(0);
        else if (this.parameter == 4 || this.parameter == 8) this.moveTo(this.line.length);
        else if (this.parameter == 3) this.deleteForward();
    }
  }

  private deleteForward(): void {
    if (this.cursor < this.line.length) this.replace(this.cursor, this.cursor + 1, "");
  }

  private deleteWord(): void {
    let start = this.cursor;
    while (start > 0 && this.line.charCodeAt(start - 1) == Ascii.SPACE) start--;
    while (start > 0 && this.line.charCodeAt(start - 1) != Ascii.SPACE) start--;
    this.replace(start, this.cursor, "");
  }

  private back(count: i32): void {
    if (count > 0) this.print("\b".repeat(count));
  }

  private moveTo(target: i32): void {
    const to = max(0, min(target, this.line.length));
    if (to < this.cursor) this.back(this.cursor - to);
    else this.print(this.line.substring(this.cursor, to));
    this.cursor = to;
  }

  /** Puts `text` for the characters from `start` to `end`, on the screen too; the cursor is behind it. */
  private replace(start: i32, end: i32, text: string): void {
    if (start < 0) return;
    this.moveTo(start);
    const tail = this.line.substring(end);
    const gone = end - start - text.length;
    this.line = this.line.substring(0, start) + text + tail;
    this.print(text + tail + (gone > 0 ? " ".repeat(gone) : ""));
    this.back(tail.length + max(gone, 0));
    this.cursor = start + text.length;
  }

  private recall(place: i32): void {
    if (place < 0 || place > this.history.length) return;
    if (this.place == this.history.length) this.draft = this.line;
    this.place = place;
    const text = place == this.history.length ? this.draft : this.history[place];
    this.moveTo(0);
    this.replace(0, this.line.length, text);
  }
}
