// A document: what a request, a result, a specification and a message are before and after CBOR.

export const enum Kind {
  NULL = 0,
  BOOL = 1,
  UINT = 2,
  TEXT = 3,
  BYTES = 4,
  LIST = 5,
  MAP = 6,
}

export class Value {
  number: u64 = 0;
  text: string = "";
  private data: StaticArray<u8> | null = null;
  private names: string[] | null = null;
  private values: Value[] | null = null;

  constructor(public kind: Kind) {}

  static uint(number: u64): Value {
    const value = new Value(Kind.UINT);
    value.number = number;
    return value;
  }

  static bool(truth: bool): Value {
    const value = new Value(Kind.BOOL);
    value.number = truth ? 1 : 0;
    return value;
  }

  static string(text: string): Value {
    const value = new Value(Kind.TEXT);
    value.text = text;
    return value;
  }

  static bytes(data: StaticArray<u8>): Value {
    const value = new Value(Kind.BYTES);
    value.data = data;
    return value;
  }

  static list(): Value {
    const value = new Value(Kind.LIST);
    value.values = [];
    return value;
  }

  static map(): Value {
    const value = new Value(Kind.MAP);
    value.names = [];
    value.values = [];
    return value;
  }

  /** Bytes of a BYTES value. */
  get blob(): StaticArray<u8> {
    return this.data!;
  }

  /** Items of a LIST, values of a MAP. */
  get items(): Value[] {
    return this.values!;
  }

  /** Keys of a MAP. */
  get keys(): string[] {
    return this.names!;
  }

  /** Adds a member to a MAP; returns the map. */
  put(key: string, value: Value): Value {
    this.names!.push(key);
    this.values!.push(value);
    return this;
  }

  putUint(key: string, number: u64): Value {
    return this.put(key, Value.uint(number));
  }

  putText(key: string, text: string): Value {
    return this.put(key, Value.string(text));
  }

  putBool(key: string, truth: bool): Value {
    return this.put(key, Value.bool(truth));
  }

  /** Adds an item to a LIST; returns the list. */
  add(value: Value): Value {
    this.values!.push(value);
    return this;
  }

  /** A member of a MAP; null when there is none, or this is no map. */
  get(key: string): Value | null {
    if (this.kind != Kind.MAP) return null;
    const at = this.names!.indexOf(key);
    return at < 0 ? null : this.values![at];
  }

  /** A text member, or `otherwise`. */
  getText(key: string, otherwise: string = ""): string {
    const value = this.get(key);
    return value != null && value.kind == Kind.TEXT ? value.text : otherwise;
  }

  /** A number member, or `otherwise`. */
  getUint(key: string, otherwise: u64 = 0): u64 {
    const value = this.get(key);
    return value != null && value.kind == Kind.UINT ? value.number : otherwise;
  }

  getBool(key: string, otherwise: bool = false): bool {
    const value = this.get(key);
    return value != null && value.kind == Kind.BOOL ? value.number != 0 : otherwise;
  }

  /** A list member's items; empty when there is none. */
  getList(key: string): Value[] {
    const value = this.get(key);
    return value != null && value.kind == Kind.LIST ? value.items : [];
  }
}
