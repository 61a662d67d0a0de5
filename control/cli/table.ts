// The table of commands, in the order in which help lists them.

import type { Command } from "./command";
import { audit, auditReplay, auditVerify } from "./commands/audit";
import { controlUpgrade } from "./commands/control";
import { consoleCommand } from "./commands/console";
import { decode } from "./commands/decode";
import { trap, trapModel } from "./commands/hidden";
import { imageIso, imagePxe, imageUsb } from "./commands/image";
import { doctor, free, hardware, images, ls, show, status } from "./commands/inspect";
import { balloon, create, pause, reset, resume, rm, start, stop } from "./commands/lifecycle";
import { completion, help, man, version } from "./commands/meta";
import { migrate } from "./commands/migrate";
import { port } from "./commands/port";
import { policyCheck, policyExplain } from "./commands/policy";
import { protect, recover } from "./commands/protect";
import { rigDown, rigShow, rigUp } from "./commands/rig";
import { apply, check, diff, exportCommand, schemaCommand, set, tenants } from "./commands/spec";
import { scale } from "./commands/scale";
import { shell } from "./commands/shell";
import {
  snapshotClone,
  snapshotCreate,
  snapshotLs,
  snapshotRestore,
  snapshotRm,
  snapshotShow,
} from "./commands/snapshot";
import {
  snapshotDiff,
  snapshotExport,
  snapshotImport,
  snapshotKeys,
  snapshotVerify,
} from "./commands/snapshot-files";
import { events, logs } from "./commands/streams";
import { tenantRm, tenantSet } from "./commands/tenant";
import { top } from "./commands/top";

/** All commands. A function, because `help` and `completion` are in the table and read it. */
export function commandTable(): readonly Command[] {
  return [
    status,
    ls,
    show,
    create,
    set,
    start,
    stop,
    pause,
    resume,
    balloon,
    reset,
    rm,
    snapshotCreate,
    snapshotLs,
    snapshotShow,
    snapshotRestore,
    snapshotClone,
    snapshotRm,
    snapshotExport,
    snapshotImport,
    snapshotVerify,
    snapshotDiff,
    snapshotKeys,
    migrate,
    scale,
    protect,
    recover,
    consoleCommand,
    port,
    logs,
    events,
    top,
    audit,
    auditVerify,
    auditReplay,
    exportCommand,
    check,
    diff,
    apply,
    schemaCommand,
    tenants,
    tenantSet,
    tenantRm,
    policyExplain,
    policyCheck,
    images,
    free,
    doctor,
    hardware,
    controlUpgrade,
    decode,
    shell,
    rigUp,
    rigDown,
    rigShow,
    imageIso,
    imageUsb,
    imagePxe,
    trap,
    trapModel,
    completion,
    man,
    version,
    help,
  ];
}
