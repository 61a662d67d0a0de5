// `plinth migrate`: a VM goes on on another host.

import type { Option } from "../arguments";
import { BULK, type Command } from "../command";
import { usageError } from "../errors";
import { counted } from "../output";
import { Migration } from "../migrate/migration";
import { Peer } from "../migrate/peer";
import { addressText, parseAddress } from "../transport";
import { formatSize, formatTime, parseTime } from "../values";

/** Milliseconds for which a VM stands still, if nothing else is said. */
const DOWNTIME = "1s";

const TO_BULK: Option = { ...BULK, name: "to-bulk", summary: "the other host's second line, as --bulk" };

export const migrate: Command = {
  name: "migrate",
  operands: "VM",
  options: [
    { name: "to", value: "ADDRESS", summary: "the other host: a socket, tcp:HOST:PORT or device:PATH" },
    {
      name: "dry-run",
      summary: "only say whether the other host could take it, and how long that would last",
    },
    {
      name: "downtime",
      value: "TIME",
      summary: `how long it may stand still, if that can be had (${DOWNTIME})`,
    },
    BULK,
    TO_BULK,
  ],
  completes: "vm",
  summary: "move a running VM to another host",
  details: [
    "The other host says first what it lacks. Then the VM is copied while it runs, round by round what it has written",
    "meanwhile, until little is left; for that it is paused. If it writes faster than is copied, it gets less of its CPUs",
    "for a while. Until the other host has all of it, whatever fails, or Ctrl-C, leaves it running here. Then it is given",
    "up here ('moved'), goes on there, and is removed here: it never runs on both. Only when a host is lost in between has",
    "a person to say which: the message has the commands.",
  ].join("\n"),
  examples: [
    "plinth migrate a --to tcp:other:7000 --dry-run",
    "plinth migrate a --to /run/other.sock --downtime 500ms",
  ],
  run: async (context) => {
    const { args, out } = context;
    const vm = args.operands[0]!;
    const given = args.value("to");
    if (given === undefined) throw usageError("'plinth migrate' needs --to ADDRESS", "plinth help migrate");
    const address = parseAddress(given);
    if (addressText(address) === addressText(context.address))
      throw usageError(
        `--to: ${given} is the host that ${vm} is on`,
        `plinth snapshot clone, for a second one`,
      );
    const downtime = parseTime(args.value("downtime") ?? DOWNTIME, "--downtime");
    const from = await Peer.open(context.address, context.pageOptions());
    let to: Peer | undefined;
    try {
      to = await Peer.open(address, context.pageOptions(address, TO_BULK.name));
      const migration = new Migration({ vm, from, to, out, downtime });
      if (args.has("dry-run")) {
        const forecast = await migration.forecast();
        if (out.json) return out.object(forecast);
        const { bytes, ms } = forecast;
        return out.talk(
          `${vm} can go on on ${to.text}: up to ${formatSize(bytes)} are copied, about ${formatTime(ms)}`,
        );
      }
      const done = await migration.run();
      if (out.json) return out.object({ ...done, to: to.text });
      const how = `${formatSize(done.bytes)} in ${counted(done.rounds.length, "round")}`;
      out.talk(`${vm} is on ${to.text}: ${how}, it stood still for ${formatTime(done.pauseMs)}`);
      if (done.left.length > 0) out.talk(`left to do: ${done.left.join("; ")}`);
    } finally {
      await from.close();
      await to?.close();
    }
  },
};
