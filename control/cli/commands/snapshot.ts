// Snapshots on the host, and what the repository has of them: create, ls, show, restore, clone, rm.

import type { Option } from "../arguments";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { colourState, oneLine } from "../output";
import type { VmRow } from "../results";
import { plainText } from "../snapshot/difference";
import { hostDocument } from "../snapshot/document";
import { PAGE_SIZE } from "../snapshot/page-map";
import { RollbackGuard } from "../snapshot/rollback";
import {
  isLocal,
  keysOf,
  LOCAL,
  manifestFacts,
  REPO,
  repositoryOf,
  ROLLBACK,
  rollbackWord,
  SECRET,
  signerText,
  timeText,
  TRUST,
} from "../snapshot/setup";
import { isFile, openSource } from "../snapshot/source";
import { formatSize } from "../values";

const PAUSED: Option = { name: "paused", summary: "do not let it go on yet" };
const OVERCOMMIT: Option = {
  name: "overcommit",
  summary:
    "even if memory may not suffice for all that is written later: the VM is paused when there is none",
};

/** What the host is asked for memory. */
function overcommit({ args }: Context): { overcommit?: boolean } {
  return args.has("overcommit") ? { overcommit: true } : {};
}

export const snapshotCreate: Command = {
  name: "snapshot create",
  operands: "VM [NAME]",
  options: [{ name: "note", value: "TEXT", summary: "a word on it, for 'snapshot ls'" }, OVERCOMMIT],
  completes: "vm",
  summary: "keep what a VM is now: its memory, disks and devices; it stands still for a moment only",
  details: [
    "Without NAME it is VM-N. It shares its memory with the VM until the VM writes, and is on the host, until it restarts:",
    "'plinth snapshot export' brings it here.",
  ].join("\n"),
  examples: ["plinth snapshot create a before-upgrade --note 'works'"],
  run: async (context) => {
    const [vm, name] = context.args.operands;
    const row = await (
      await context.connect()
    ).createSnapshot(vm!, {
      name,
      note: context.args.value("note"),
      ...overcommit(context),
    });
    if (context.out.json) context.out.object(row);
    else context.out.talk(`${oneLine(row.name)}: ${formatSize(row.memory)} of ${oneLine(row.vm)} are kept`);
  },
};

export const snapshotLs: Command = {
  name: "snapshot ls",
  operands: "[VM]",
  options: [LOCAL, REPO, ...SECRET],
  completes: "vm",
  summary: "the snapshots on the host, or with --local those in the repository",
  details: "OWN is what a snapshot alone holds, or would when all that share memory with it have written.",
  run: async (context) => (isLocal(context) ? listRepository(context) : listHost(context)),
};

async function listHost(context: Context): Promise<void> {
  const rows = await (await context.connect()).snapshots(context.args.operands[0]);
  if (context.out.json) return context.out.object({ snapshots: rows });
  if (rows.length === 0) return context.out.talk("there are no snapshots; next: plinth snapshot create VM");
  const noted = rows.some(({ note }) => note);
  context.out.table(
    ["NAME", "VM", "CREATED", ">MEMORY", ">OWN", "STATE", ...(noted ? ["NOTE"] : [])],
    rows.map((row) => [
      oneLine(row.name),
      oneLine(row.vm),
      timeText(row.created),
      formatSize(row.memory),
      formatSize(row.own),
      oneLine(row.state) + (row.base ? `, on ${oneLine(row.base)}` : ""),
      ...(noted ? [oneLine(row.note)] : []),
    ]),
  );
}

function listRepository(context: Context): void {
  const { out } = context;
  const repository = repositoryOf(context);
  const [vm] = context.args.operands;
  const rows = repository.names.flatMap((name) => {
    try {
      const { document, maps, base } = repository.read(name, true);
      if (vm !== undefined && document.vm !== vm) return [];
      const bytes = maps.reduce((sum, { size }) => sum + size, 0);
      const { created, tenant } = document;
      return [{ name, vm: document.vm, tenant, created, bytes, base: base?.document.name, problem: "" }];
    } catch (error) {
      if (!(error instanceof PlinthError)) throw error;
      return [{ name, vm: "", tenant: "", created: 0, bytes: 0, base: undefined, problem: error.message }];
    }
  });
  if (out.json) return out.object({ repository: repository.folder, snapshots: rows });
  if (rows.length === 0)
    return out.talk(`there are no snapshots in ${repository.folder}; next: plinth snapshot export NAME`);
  out.table(
    ["NAME", "VM", "CREATED", ">DATA", "BASE"],
    rows.map(({ name, vm: of, created, bytes, base, problem }) =>
      problem === ""
        ? [name, of, timeText(created), formatSize(bytes), base ?? ""]
        : [name, oneLine(problem)],
    ),
  );
}

export const snapshotShow: Command = {
  name: "snapshot show",
  operands: "NAME|FILE",
  options: [LOCAL, REPO, ...SECRET, TRUST],
  completes: "snapshot",
  summary: "what a snapshot is of, and what it needs",
  details:
    "A FILE has a '/' in its name, or ends with '.plinth'. Its pages are not looked at: 'snapshot verify' does that.",
  examples: ["plinth snapshot show a-1", "plinth snapshot show ./a-1.plinth --json"],
  run: async (context) => {
    const { out } = context;
    const operand = context.args.operands[0]!;
    if (!isLocal(context) && !isFile(operand)) {
      const raw = await (await context.connect()).showSnapshot(operand);
      return out.json ? out.object(raw) : out.facts(documentLines(raw));
    }
    const keys = keysOf(context);
    const { manifest, close } = openSource(operand, repositoryOf(context, keys), true);
    try {
      if (out.json) return out.object({ ...manifestFacts(manifest, keys), document: manifest.document.raw });
      const { base, root, signer, maps, document } = manifest;
      out.facts([
        ...documentLines(document.raw),
        ...document.objects.map(
          ({ kind, pages }, n) =>
            [`data of ${kind}`, `${formatSize(maps[n]!.size)} of ${formatSize(pages * PAGE_SIZE)}`] as const,
        ),
        ...(base ? [["base", base.document.name] as const] : []),
        ["root", root],
        ["signed by", signerText(signer, keys)],
      ]);
    } finally {
      close();
    }
  },
};

/** Every field that a host has said, one a line. */
function documentLines(raw: object): [string, string][] {
  return Object.entries(raw).map(([field, value]) => [
    oneLine(field),
    field === "created" ? timeText(value) : oneLine(plainText(value)),
  ]);
}

export const snapshotRestore: Command = {
  name: "snapshot restore",
  operands: "NAME",
  options: [
    { name: "force", summary: "even if the VM runs: what it is now is lost" },
    { name: "protected", summary: "with --force: even if it is protected" },
    PAUSED,
    ...ROLLBACK,
    OVERCOMMIT,
  ],
  completes: "snapshot",
  summary: "take a VM back to a snapshot on the host; if it is gone, it is made again",
  examples: ["plinth snapshot restore a-1 --force"],
  run: async (context) => {
    const name = context.args.operands[0]!;
    const guard = new RollbackGuard(context.world.env, rollbackWord(context));
    const client = await context.connect();
    const point = hostDocument(name, await client.showSnapshot(name).catch(notOnHost(context, name)));
    guard.check(point);
    const row = await client.restoreSnapshot(name, {
      force: context.args.has("force"),
      protected: context.args.has("protected"),
      paused: context.args.has("paused"),
      ...overcommit(context),
    });
    guard.note(point);
    told(context, row, `goes on from ${name}`);
  },
};

/** A snapshot that only the repository has can be brought to the host. */
function notOnHost(context: Context, name: string): (error: unknown) => never {
  return (error) => {
    const isHere =
      error instanceof PlinthError && error.code === ErrorCode.NOT_FOUND && repositoryOf(context).has(name);
    if (!isHere) throw error;
    const message = `${name} is in the repository, not on the host`;
    const next = `plinth snapshot import ${name}`;
    throw new PlinthError({ code: ErrorCode.NOT_FOUND, message, object: name, next });
  };
}

export const snapshotClone: Command = {
  name: "snapshot clone",
  operands: "NAME VM",
  options: [
    PAUSED,
    { name: "tenant", value: "NAME", choices: ["tenant"], summary: "whose it is, if not the same tenant's" },
    OVERCOMMIT,
  ],
  completes: "snapshot",
  summary: "make another VM that goes on from a snapshot, with a name and addresses of its own",
  examples: ["plinth snapshot clone a-1 b"],
  run: async (context) => {
    const [name, vm] = context.args.operands as [string, string];
    const { args } = context;
    const more = { paused: args.has("paused"), tenant: args.value("tenant"), ...overcommit(context) };
    const row = await (await context.connect()).cloneSnapshot(name, vm, more);
    told(context, row, `goes on from ${name}`);
  },
};

function told(context: Context, row: VmRow, what: string): void {
  if (context.out.json) context.out.object(row);
  else context.out.talk(`${oneLine(row.name)}: ${colourState(oneLine(row.state))}, ${what}`);
}

export const snapshotRm: Command = {
  name: "snapshot rm",
  operands: "NAME...",
  options: [LOCAL, REPO, ...SECRET],
  completes: "snapshot",
  summary: "remove snapshots from the host, or with --local from the repository",
  details:
    "In the repository, pages that no other snapshot has are removed too. One that others are based on stays.",
  run: async (context) => {
    const { out } = context;
    const names = context.args.operands;
    if (names.some(isFile)) throw usageError("a file is removed with rm", "rm FILE");
    const gone: object[] = [];
    for (const name of names) {
      if (isLocal(context)) {
        const freed = repositoryOf(context).remove(name);
        if (!out.json) out.talk(`${name}: removed, ${formatSize(freed)} are free`);
        gone.push({ name, freed });
        continue;
      }
      await (await context.connect()).removeSnapshot(name);
      if (!out.json) out.talk(`${name}: removed`);
      gone.push({ name });
    }
    if (out.json) out.object({ removed: gone });
  },
};
