// Commands for tests of the host: they make a component trap.

import type { Command } from "../command";

export const trap: Command = {
  name: "test trap",
  operands: "",
  options: [],
  hidden: true,
  summary: "make the control domain trap; VMs run on, a new one takes over",
  run: async (context) => {
    const client = await context.connect();
    const before = (await client.status()).controlRestarts;
    await client.trap();
    const after = await client.status();
    if (context.out.json) context.out.object({ controlRestarts: after.controlRestarts });
    else context.out.talk(`the control domain restarted: ${before} -> ${after.controlRestarts} restarts`);
  },
};

export const trapModel: Command = {
  name: "test trap-model",
  operands: "NAME",
  options: [],
  hidden: true,
  completes: "vm",
  summary: "make the device model of a VM trap; the VM crashes, nothing else",
  run: async (context) => {
    const client = await context.connect();
    const vm = context.args.operands[0]!;
    await client.trapModel(vm);
    const row = (await client.list()).find((candidate) => candidate.name === vm);
    if (context.out.json) context.out.object(row ?? { name: vm, state: "gone" });
    else context.out.talk(`${vm}: ${row?.state ?? "gone"}`);
  },
};
