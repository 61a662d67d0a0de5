// The table of commands, in the order in which help lists them.

import type { Command } from "./command";
import { consoleCommand } from "./commands/console";
import { trap, trapModel } from "./commands/hidden";
import { doctor, free, images, ls, show, status } from "./commands/inspect";
import { create, pause, reset, resume, rm, start, stop } from "./commands/lifecycle";
import { completion, help, version } from "./commands/meta";
import { rigDown, rigShow, rigUp } from "./commands/rig";
import { shell } from "./commands/shell";
import { events, logs } from "./commands/streams";

/** All commands. A function, because `help` and `completion` are in the table and read it. */
export function commandTable(): readonly Command[] {
  return [
    status,
    ls,
    show,
    create,
    start,
    stop,
    pause,
    resume,
    reset,
    rm,
    consoleCommand,
    logs,
    events,
    images,
    free,
    doctor,
    shell,
    rigUp,
    rigDown,
    rigShow,
    trap,
    trapModel,
    completion,
    version,
    help,
  ];
}
