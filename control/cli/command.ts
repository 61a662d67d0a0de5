// What a command is: one row of the table from which parsing, help and completion come.

import type { Arguments, Option, Syntax } from "./arguments";
import { connect, type Client, type ConnectOptions } from "./client";
import type { Output, World } from "./output";
import { PROGRESS } from "./progress";
import { bulkBeside, parseAddress, resolveAddress, type Address } from "./transport";
import { parseTime } from "./values";

/** A row of the table. */
export interface Command extends Syntax {
  summary: string;
  /** More than the summary, for `plinth help COMMAND`. */
  details?: string;
  examples?: readonly string[];
  /** Not listed in help. */
  hidden?: boolean;
  /** What an operand completes to: "vm", "tenant", "snapshot", fixed words, or ["file"]. */
  completes?: "vm" | "tenant" | "snapshot" | readonly string[];
  /** Words that complete further operands: "tags=". */
  keys?: readonly string[];
  run(context: Context): Promise<void>;
}

export const COLORS: readonly string[] = ["auto", "always", "never"];

/** Options of every command. */
export const GLOBALS: readonly Option[] = [
  { name: "socket", value: "PATH", choices: ["file"], summary: "connect to a Unix socket" },
  { name: "tcp", value: "HOST:PORT", summary: "connect by TCP" },
  { name: "device", value: "PATH", choices: ["file"], summary: "connect to a serial device or a pty" },
  { name: "timeout", value: "TIME", summary: "how long to wait for an answer: 30s, 500ms, 2m" },
  { name: "json", summary: "print the result as JSON" },
  {
    name: "color",
    value: "WHEN",
    choices: COLORS,
    summary: "colours: auto (on a terminal, unless NO_COLOR is set), always or never",
  },
  {
    name: "progress",
    value: "HOW",
    choices: PROGRESS,
    summary: "how far long things are, on stderr: auto (a line, on a terminal), json or never",
  },
  { name: "help", short: "h", summary: "explain the command" },
];

/** Of commands that move pages. */
export const BULK: Option = {
  name: "bulk",
  value: "ADDRESS",
  choices: ["file"],
  summary:
    "the host's second line, for pages: as in PLINTH_CONNECT, or off (NAME-bulk.sock beside NAME.sock)",
};

const ANSWER_TIMEOUT = 30_000;
const LONG_TIMEOUT = 300_000;

/** What a running command works with. */
export class Context {
  readonly args: Arguments;
  readonly out: Output;
  readonly world: World;
  private client: Client | undefined;
  private movesPages = false;

  constructor(args: Arguments, out: Output) {
    this.args = args;
    this.out = out;
    this.world = out.world;
  }

  /** Milliseconds that an answer may take. */
  get timeout(): number {
    return this.givenTimeout ?? ANSWER_TIMEOUT;
  }

  /** Milliseconds that a wait for a state or for output may take. */
  get longTimeout(): number {
    return this.givenTimeout ?? LONG_TIMEOUT;
  }

  private get givenTimeout(): number | undefined {
    const text = this.args.value("timeout");
    return text === undefined ? undefined : parseTime(text, "--timeout");
  }

  /** Where the host is. */
  get address(): Address {
    const { args } = this;
    return resolveAddress({
      socket: args.value("socket"),
      tcp: args.value("tcp"),
      device: args.value("device"),
      env: this.world.env,
    });
  }

  /** The session with the host; closed when the command ends. */
  async connect(): Promise<Client> {
    this.client ??= await connect(this.address, this.movesPages ? this.pageOptions() : this.options);
    return this.client;
  }

  /** A session in which pages go over the host's bulk line, if it has one. */
  connectForPages(): Promise<Client> {
    this.movesPages = true;
    return this.connect();
  }

  private get options(): ConnectOptions {
    return { timeout: this.timeout };
  }

  /** How to connect to a host when pages are moved; the option says where its bulk line is, or that beside it is taken. */
  pageOptions(address = this.address, option = BULK.name): ConnectOptions {
    const given = this.args.value(option);
    const bulk =
      given === undefined ? bulkBeside(address) : given === "off" ? undefined : parseAddress(given);
    const notice = (text: string): void => {
      if (!this.out.json) this.out.talk(text);
    };
    return { ...this.options, bulk, notice };
  }

  /** A new session in place of one that was lost. */
  async reconnect(): Promise<Client> {
    await this.close();
    this.client = undefined;
    return this.connect();
  }

  async close(): Promise<void> {
    await this.client?.close();
  }
}
