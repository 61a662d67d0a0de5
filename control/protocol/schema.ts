/*
 * The management protocol's one schema: every name and number that both ends of the line must agree on.
 *
 * Written in the subset of TypeScript that asc, esbuild and tsc all accept: numbers are members of a
 * `const enum`, strings are `export const NAME: string`. The control domain (AssemblyScript) and the
 * CLI (Node) import this file; neither has a copy. README.md explains the messages.
 */

/** Sizes and versions of the framed protocol. */
export const enum Protocol {
  VERSION = 1,
  /** Version of a snapshot's document. */
  SNAPSHOT_FORMAT = 1,
  /** Pages of which one request asks the hashes, at most. */
  MAX_HASHES = 64,
  /** Bytes of a frame's CBOR payload, at most: a page of memory, and what is said of it. */
  MAX_PAYLOAD = 4608,
  /** Bytes after which a frame without an end is given up. */
  MAX_FRAME = 4736,
  /** Milliseconds of silence after which an unfinished frame is given up. */
  FRAME_TIMEOUT_MS = 2000,
  /** Nesting of a CBOR item, at most. */
  MAX_DEPTH = 8,
  /** Bytes of console output in one push, of a log in one reply, of input in one request. */
  MAX_CHUNK = 3072,
  /** Milliseconds without a request after which a port is free again: its program is gone. */
  PORT_LEASE_MS = 60000,
  /** Milliseconds without a word after which a program does not type into a console any more. */
  CONSOLE_LEASE_MS = 15000,
  /** Events in one reply of `events`, at most. */
  MAX_EVENTS_REPLY = 16,
  /** Events the control domain keeps. */
  EVENTS_KEPT = 256,
  /** Records the audit log keeps, and bytes of each with its hash. */
  AUDIT_KEPT = 256,
  AUDIT_RECORD = 384,
  /** Bytes that are kept of what decisions rested on, and of one decision. */
  FACTS_KEPT = 262144,
  FACTS_SIZE = 131072,
  /** Bytes of console output kept per VM. */
  SCROLLBACK = 65536,
}

/** Version of the host specification. */
export const enum Specification {
  VERSION = 1,
  MAX_VMS = 128,
  MAX_NAME = 27,
  MAX_CMDLINE = 1024,
  MAX_DISKS = 4,
  /** Modules for a VM's kernel, and the length of the command line of each. */
  MAX_BOOT_MODULES = 8,
  MAX_MODULE_CMDLINE = 200,
  MAX_NETWORKS = 4,
  /** Networks of the whole host. */
  MAX_HOST_NETWORKS = 16,
  /** Named ports beside the console. */
  MAX_PORTS = 4,
  MAX_TENANTS = 16,
  MAX_SNAPSHOTS = 64,
  /** Bytes of a snapshot's note. */
  MAX_NOTE = 100,
  MAX_TAGS = 8,
  /** Bytes of a whole host specification. */
  MAX_SIZE = 65536,
  MAX_DEPTH = 8,
}

/** Error codes of a reply: the exit codes of the CLI. */
export const enum ErrorCode {
  NONE = 0,
  FAILED = 1,
  USAGE = 2,
  NOT_FOUND = 3,
  WRONG_STATE = 4,
  UNREACHABLE = 5,
  DENIED = 6,
  INTEGRITY = 7,
}

/** What the snapshot is called that the copies of a VM go on from; the name of the VM follows. */
export const SCALE_SNAPSHOT: string = "scale.";

/* Operations: the `op` of a request. */
export const OP_HELLO: string = "hello";
/** The bulk line takes nothing more until a hello comes on it: what is still on its way there is too late. */
export const OP_BULK_CLOSE: string = "bulk.close";
export const OP_STATUS: string = "status";
export const OP_LS: string = "ls";
export const OP_SHOW: string = "show";
export const OP_CREATE: string = "create";
export const OP_START: string = "start";
export const OP_STOP: string = "stop";
export const OP_PAUSE: string = "pause";
export const OP_RESUME: string = "resume";
export const OP_BALLOON: string = "balloon";
export const OP_RESET: string = "reset";
export const OP_RM: string = "rm";
export const OP_SET: string = "set";
export const OP_TENANTS: string = "tenants";
export const OP_TENANT_SET: string = "tenant.set";
export const OP_TENANT_RM: string = "tenant.rm";
export const OP_TOP: string = "top";
export const OP_SPEC_PUT: string = "spec.put";
export const OP_PLAN: string = "plan";
export const OP_APPLY: string = "apply";
export const OP_AUDIT: string = "audit";
export const OP_IMAGES: string = "images";
export const OP_CONSOLE_ATTACH: string = "console.attach";
export const OP_CONSOLE_DETACH: string = "console.detach";
export const OP_CONSOLE_WRITE: string = "console.write";
export const OP_CONSOLE_HOLD: string = "console.hold";
export const OP_PORT_ATTACH: string = "port.attach";
export const OP_PORT_DETACH: string = "port.detach";
export const OP_PORT_READ: string = "port.read";
export const OP_PORT_WRITE: string = "port.write";
export const OP_LOGS: string = "logs";
export const OP_EVENTS: string = "events";
export const OP_EVENTS_WATCH: string = "events.watch";
export const OP_DOCTOR: string = "doctor";
export const OP_HARDWARE: string = "hardware";
export const OP_HARDWARE_PCI: string = "hardware.pci";
export const OP_AUDIT_FACTS: string = "audit.facts";
export const OP_IMAGE_PUT: string = "image.put";
export const OP_UPGRADE: string = "upgrade";
export const OP_HARDWARE_MITIGATIONS: string = "hardware.mitigations";
export const OP_RULES: string = "rules";
export const OP_POLICY: string = "policy";
export const OP_SNAPSHOT_CREATE: string = "snapshot.create";
export const OP_SNAPSHOT_LS: string = "snapshot.ls";
export const OP_SNAPSHOT_SHOW: string = "snapshot.show";
export const OP_SNAPSHOT_RESTORE: string = "snapshot.restore";
export const OP_SNAPSHOT_CLONE: string = "snapshot.clone";
export const OP_SNAPSHOT_RM: string = "snapshot.rm";
export const OP_SNAPSHOT_PAGES: string = "snapshot.pages";
export const OP_SNAPSHOT_HASH: string = "snapshot.hash";
export const OP_SNAPSHOT_READ: string = "snapshot.read";
export const OP_SNAPSHOT_BEGIN: string = "snapshot.begin";
export const OP_SNAPSHOT_WRITE: string = "snapshot.write";
export const OP_SNAPSHOT_END: string = "snapshot.end";
export const OP_HANDOVER: string = "vm.handover";
export const OP_TEST_TRAP: string = "test.trap";
export const OP_TEST_TRAP_MODEL: string = "test.trapModel";
export const OP_TEST_REBORN: string = "test.reborn";

/* Pushes: the `ev` of a message that answers no request. */
/** The answer to an empty frame. */
export const PUSH_READY: string = "ready";
export const PUSH_CONSOLE: string = "console";
export const PUSH_PORT: string = "port";
export const PUSH_EVENT: string = "event";

/* Fields of the envelope. */
export const FIELD_ID: string = "id";
export const FIELD_OP: string = "op";
export const FIELD_OK: string = "ok";
export const FIELD_RESULT: string = "result";
export const FIELD_ERROR: string = "error";
export const FIELD_EV: string = "ev";

/* Fields of an error. */
export const FIELD_CODE: string = "code";
export const FIELD_MESSAGE: string = "message";
export const FIELD_OBJECT: string = "object";
export const FIELD_NEXT: string = "next";

/* Fields of requests, results and pushes. */
export const FIELD_VM: string = "vm";
export const FIELD_VMS: string = "vms";
export const FIELD_SPEC: string = "spec";
export const FIELD_FORCE: string = "force";
export const FIELD_FROM: string = "from";
export const FIELD_SINCE: string = "since";
export const FIELD_DATA: string = "data";
export const FIELD_AT: string = "at";
export const FIELD_OLDEST: string = "oldest";
export const FIELD_EVENTS: string = "events";
export const FIELD_SEQ: string = "seq";
export const FIELD_KIND: string = "kind";
export const FIELD_TEXT: string = "text";
export const FIELD_VERSION: string = "version";
export const FIELD_PRODUCT: string = "product";
export const FIELD_BUILD: string = "build";
export const FIELD_HOST: string = "host";
export const FIELD_UPTIME_MS: string = "uptimeMs";
export const FIELD_CPU: string = "cpu";
export const FIELD_CPUS: string = "cpus";
export const FIELD_RIG: string = "rig";
export const FIELD_MEMORY: string = "memory";
export const FIELD_TOTAL: string = "total";
export const FIELD_FREE: string = "free";
export const FIELD_CLEAN: string = "clean";
export const FIELD_BALLOON: string = "balloon";
export const FIELD_TARGET: string = "target";
export const FIELD_ACTUAL: string = "actual";
export const FIELD_AVAILABLE: string = "available";
export const FIELD_CACHES: string = "caches";
export const FIELD_MAJOR_FAULTS: string = "majorFaults";
export const FIELD_KERNEL: string = "kernel";
export const FIELD_RESERVED: string = "reserved";
export const FIELD_PROMISED: string = "promised";
export const FIELD_RUNNING: string = "running";
export const FIELD_CONTROL_RESTARTS: string = "controlRestarts";
export const FIELD_BAD_FRAMES: string = "badFrames";
export const FIELD_OVERRUNS: string = "overruns";
export const FIELD_FEATURES: string = "features";
export const FIELD_NAME: string = "name";
export const FIELD_STATE: string = "state";
export const FIELD_REASON: string = "reason";
export const FIELD_VCPUS: string = "vcpus";
export const FIELD_SINCE_MS: string = "sinceMs";
export const FIELD_FIRMWARE: string = "firmware";
export const FIELD_INITRD: string = "initrd";
export const FIELD_BOOT: string = "boot";
export const FIELD_MODULES: string = "modules";
/** The boot module that says which others there are, and how large: {modules: [{name, size}]}. */
export const MODULE_MANIFEST: string = "manifest";
export const FIELD_DEBUG_EXIT: string = "debugExit";
export const FIELD_CONSOLE: string = "console";
export const CONSOLE_SERIAL: string = "serial";
export const CONSOLE_VIRTIO: string = "virtio";
export const FIELD_DISKS: string = "disks";
export const FIELD_IMAGE: string = "image";
export const FIELD_READ_ONLY: string = "readOnly";
export const FIELD_CDROM: string = "cdrom";
export const FIELD_NETWORKS: string = "networks";
export const FIELD_NETWORK: string = "network";
export const FIELD_MAC: string = "mac";
export const FIELD_RINGS: string = "rings";
/* How it gets its CPU time. */
export const FIELD_SCHEDULING: string = "scheduling";
export const SCHEDULING_SHARED: string = "shared";
export const SCHEDULING_RESERVED: string = "reserved";
export const SCHEDULING_DEDICATED: string = "dedicated";
export const FIELD_WEIGHT: string = "weight";
export const FIELD_CAP: string = "cap";
export const FIELD_RESERVE: string = "reserve";
export const FIELD_PERIOD: string = "period";
export const FIELD_LATENCY: string = "latency";
export const FIELD_THROTTLES: string = "throttles";
export const RINGS_PACKED: string = "packed";
export const RINGS_SPLIT: string = "split";
export const FIELD_PORTS: string = "ports";
export const FIELD_PORT: string = "port";
export const FIELD_SESSION: string = "session";
export const FIELD_WAIT: string = "wait";
export const FIELD_READ: string = "read";
export const FIELD_WRITE: string = "write";
export const FIELD_ENDED: string = "ended";
export const FIELD_OPEN: string = "open";
export const FIELD_ATTACHED: string = "attached";
export const FIELD_UNREAD: string = "unread";
export const FIELD_TENANT: string = "tenant";
export const FIELD_TENANTS: string = "tenants";
/** The tenant of VMs that name none; it is always there. */
export const TENANT_DEFAULT: string = "default";
export const FIELD_TAGS: string = "tags";
export const FIELD_PROTECTED: string = "protected";
export const FIELD_USED: string = "used";
export const FIELD_STEPS: string = "steps";
export const FIELD_REFUSALS: string = "refusals";
export const FIELD_ACTION: string = "action";
export const FIELD_ENDS: string = "ends";
/** The newest event that is in the audit log. */
export const FIELD_EVENT: string = "event";
export const FIELD_WHO: string = "who";
export const FIELD_RECORDS: string = "records";
export const FIELD_BEFORE: string = "before";
export const FIELD_HEAD: string = "head";
export const FIELD_HASH: string = "hash";
/* Who did what the audit log tells. */
export const AUDIT_HOST: string = "host";
export const AUDIT_SHELL: string = "shell";
export const AUDIT_PROGRAM: string = "cli";
export const FIELD_DIGEST: string = "digest";
export const FIELD_CMDLINE: string = "cmdline";
export const FIELD_START: string = "start";
export const FIELD_RESTART: string = "restart";
export const FIELD_POLICY: string = "policy";
export const FIELD_MAX: string = "max";
/** How many copies of a VM there are, by policy: at least and at most. */
export const FIELD_SCALE: string = "scale";
export const FIELD_MIN: string = "min";
export const FIELD_COPIES: string = "copies";
export const FIELD_WINDOW: string = "window";
export const FIELD_RESTARTS: string = "restarts";
export const FIELD_LAST_EXIT: string = "lastExit";
export const FIELD_COUNTERS: string = "counters";
export const FIELD_EXITS: string = "exits";
export const FIELD_INTERRUPTS: string = "interrupts";
export const FIELD_FORWARDED: string = "forwarded";
export const FIELD_RUNTIME_MS: string = "runtimeMs";
export const FIELD_OVERHEAD: string = "overhead";
export const FIELD_KERNEL_BYTES: string = "kernelBytes";
export const FIELD_MODEL_BYTES: string = "modelBytes";
export const FIELD_MAPPED: string = "mapped";
export const FIELD_IMAGES: string = "images";
export const FIELD_EPOCH: string = "epoch";
export const FIELD_SIZE: string = "size";
export const FIELD_DEVICES: string = "devices";
export const FIELD_DEVICE: string = "device";
export const FIELD_NOTIFIES: string = "notifies";
export const FIELD_REQUESTS: string = "requests";
export const FIELD_BYTES_OUT: string = "bytesOut";
export const FIELD_BYTES_IN: string = "bytesIn";
export const FIELD_LINK: string = "link";
export const LINK_UP: string = "up";
export const LINK_DOWN: string = "down";
export const FIELD_FRAMES_OUT: string = "framesOut";
export const FIELD_FRAMES_IN: string = "framesIn";
export const FIELD_DROPS_OUT: string = "dropsOut";
export const FIELD_DROPS_IN: string = "dropsIn";
export const FIELD_CHECKS: string = "checks";
export const FIELD_VENDOR: string = "vendor";
export const FIELD_FAMILY: string = "family";
export const FIELD_MODEL: string = "model";
export const FIELD_STEPPING: string = "stepping";
export const FIELD_FOUND: string = "found";
export const FIELD_APIC_IDS: string = "apicIds";
export const FIELD_ACPI: string = "acpi";
export const FIELD_OEM: string = "oem";
export const FIELD_TABLE: string = "table";
export const FIELD_TABLES: string = "tables";
export const FIELD_IOMMU: string = "iommu";
export const FIELD_UNITS: string = "units";
export const FIELD_INTERRUPT_REMAPPING: string = "interruptRemapping";
export const FIELD_NUMA: string = "numa";
export const FIELD_NODE: string = "node";
export const FIELD_NODES: string = "nodes";
export const FIELD_PCI_SEGMENTS: string = "pciSegments";
export const FIELD_CLASS: string = "class";
export const FIELD_MISSING: string = "missing";
export const FIELD_COST: string = "cost";
export const FIELD_PROBLEMS: string = "problems";
/* Of `top`: microseconds. */
export const FIELD_TIME: string = "time";
export const FIELD_IDLE: string = "idle";
export const FIELD_PAST: string = "past";
/** Capabilities that the control domain holds. */
export const FIELD_CAPS: string = "caps";
export const FIELD_RUN: string = "run";
export const FIELD_READY: string = "ready";
export const FIELD_STARTS: string = "starts";
export const FIELD_CONTROL: string = "control";
/** Whether the control image is on trial: the one before may come back. */
export const FIELD_TRIAL: string = "trial";
/* What a decision rested on. */
/** In a record: where that document is, its size and its hash. */
export const FIELD_FACTS: string = "facts";
export const FIELD_VERDICT: string = "verdict";
export const FIELD_HAVE: string = "have";
export const FIELD_WANT: string = "want";
export const FIELD_FAULTS: string = "faults";
export const FIELD_FIELDS: string = "fields";
export const FIELD_FREES: string = "frees";
/** The policy hooks of the control image. */
export const FIELD_HOOKS: string = "hooks";
export const HOOKS_NONE: string = "none";
/** The CPUs on which they want a VM. */
export const FIELD_PLACED: string = "placed";
/** The core of each CPU. */
export const FIELD_CORES: string = "cores";
/** Microseconds from the end of the last control component to the start of this one. */
export const FIELD_PAUSE_US: string = "pauseUs";
/** In the stash: the version of the oldest reader. */
export const FIELD_NEEDS: string = "needs";

/* Snapshots. */
export const FIELD_SNAPSHOT: string = "snapshot";
export const FIELD_SNAPSHOTS: string = "snapshots";
export const FIELD_NOTE: string = "note";
/** The VM runs on without the promise that each of its pages finds memory when it writes. */
export const FIELD_OVERCOMMIT: string = "overcommit";
/** The snapshot that a VM that stands still has not run since. */
export const FIELD_KEPT: string = "kept";
export const FIELD_MOVED: string = "moved";
export const FIELD_PAUSED: string = "paused";
/** Unix seconds. */
export const FIELD_CREATED: string = "created";
/** Bytes that a snapshot alone holds, or will when all that share them have written. */
export const FIELD_OWN: string = "own";
export const FIELD_BASE: string = "base";
export const FIELD_PAGE: string = "page";
export const FIELD_PAGES: string = "pages";
export const FIELD_COUNT: string = "count";
export const FIELD_RANGES: string = "ranges";
export const FIELD_HASHES: string = "hashes";
/** Only the verdict is wanted: nothing is made. */
export const FIELD_DRY: string = "dry";
export const FIELD_DOCUMENT: string = "document";
export const FIELD_FORMAT: string = "format";
export const FIELD_TSC_HZ: string = "tscHz";
export const FIELD_ABI: string = "abi";
export const FIELD_CPUID: string = "cpuid";
export const FIELD_CARDS: string = "cards";
export const FIELD_OBJECTS: string = "objects";
export const FIELD_GENERATION: string = "generation";
/** TSC ticks for which a VM stood still while its snapshot was made. */
export const FIELD_PAUSE_TICKS: string = "pauseTicks";
export const VENDOR_INTEL: string = "intel";
export const VENDOR_AMD: string = "amd";
/* States of a snapshot. */
export const STATE_COMPLETE: string = "complete";
export const STATE_INCOMING: string = "incoming";
/* Kinds of a snapshot's objects; disks have their number behind the word. */
export const OBJECT_MEMORY: string = "memory";
export const OBJECT_MODEL: string = "model";
export const OBJECT_LINK: string = "link";
export const OBJECT_DISK: string = "disk";
export const OBJECT_FLASH: string = "flash";
export const OBJECT_STATE: string = "state";
export const OBJECT_IMAGE: string = "image";

/* The rules of what tenants share, and what can flow between domains. */
export const FIELD_RULES: string = "rules";
export const FIELD_SHARE: string = "share";
export const FIELD_DENIALS: string = "denials";
/** The domains that `policy` compares; without them it looks for what is forbidden everywhere. */
export const FIELD_ONE: string = "one";
export const FIELD_OTHER: string = "other";
export const FIELD_FLOWS: string = "flows";
export const FIELD_DIRECTION: string = "direction";
export const FIELD_ALLOWED: string = "allowed";
export const FIELD_FORBIDDEN: string = "forbidden";
export const FIELD_PAIRS: string = "pairs";
/* Kinds of a flow. */
export const FLOW_MEMORY: string = "memory";
/** Device registers that both reach. */
export const FLOW_PORTS: string = "ports";
export const FLOW_CHANNEL: string = "channel";
export const FLOW_CAPABILITY: string = "capability";
/** Between a VM and its device model: what exits say, and how they are answered. */
export const FLOW_EXITS: string = "exits";
export const FLOW_PATH: string = "path";
export const FLOW_CONTROL: string = "control";
export const FLOW_CPUS: string = "cpus";
export const FLOW_CORES: string = "cores";
export const FLOW_CACHES: string = "caches";
/* From the one to the other, back, both, or neither: both only read. */
export const DIRECTION_TO: string = "->";
export const DIRECTION_FROM: string = "<-";
export const DIRECTION_BOTH: string = "<->";
export const DIRECTION_NONE: string = "-";
/* What is done between two guests on a CPU: between tenants, within one, at each exit and entry. */
export const FIELD_MITIGATIONS: string = "mitigations";
export const FIELD_BETWEEN: string = "between";
export const FIELD_WITHIN: string = "within";
export const FIELD_FLAWS: string = "flaws";
export const FIELD_LEVEL: string = "level";
export const FIELD_DOES: string = "does";
export const LEVEL_ALL: string = "all";
/** What the CPU's flaws ask for. */
export const LEVEL_NEEDED: string = "needed";
export const LEVEL_OFF: string = "off";
export const LEVELS: string[] = [LEVEL_NEEDED, LEVEL_ALL, LEVEL_OFF];
/* What a VM and its device model do how often, and what of it was too much. */
export const FIELD_RATES: string = "rates";
export const FIELD_IPIS: string = "ipis";
export const FIELD_LOG: string = "log";
export const FIELD_CACHE: string = "cache";
export const FIELD_BANDWIDTH: string = "bandwidth";
export const FIELD_WAYS: string = "ways";
export const FIELD_SERVICES: string = "services";
export const FIELD_DELAY: string = "delay";
export const FIELD_OVER_MS: string = "overMs";
export const FIELD_HYPERCALLS: string = "hypercalls";
export const FIELD_THROTTLED: string = "throttled";
export const FIELD_LOG_DROPPED: string = "logDropped";
/** Of a balloon: down to this the host may take, and what it has taken. */
export const FIELD_FLOOR: string = "floor";
export const FIELD_HELD: string = "held";
/* Kinds of a denial. */
export const DENIED_LIMITS: string = "limits";
export const DENIED_NETWORKS: string = "networks";
export const DENIED_CORES: string = "cores";
export const DENIED_CACHES: string = "caches";
export const DENIED_PROTECTED: string = "protected";
export const DENIED_HOOKS: string = "hooks";

/* Ways to start a VM. */
export const BOOT_AUTO: string = "auto";
export const BOOT_LINUX: string = "linux";
export const BOOT_LINUX32: string = "linux32";
export const BOOT_PVH: string = "pvh";
export const BOOT_MULTIBOOT: string = "multiboot";
export const BOOT_MULTIBOOT2: string = "multiboot2";
export const BOOT_FIRMWARE: string = "firmware";

/* Reasons that programs know. */
export const REASON_PRESSED: string = "its power button is pressed";
export const REASON_UNHEARD: string = "its power button is pressed, but it does not listen to it";

/* States of a VM. */
export const STATE_STOPPED: string = "stopped";
export const STATE_STARTING: string = "starting";
export const STATE_RUNNING: string = "running";
export const STATE_PAUSED: string = "paused";
export const STATE_CRASHED: string = "crashed";
/** Another host has it: it stands still here until it is removed, or taken back by force. */
export const STATE_MOVED: string = "moved";

/* Restart policies of a VM. */
export const POLICY_NEVER: string = "never";
export const POLICY_ON_FAILURE: string = "on-failure";
export const POLICY_ALWAYS: string = "always";

/* What a step of a plan does. */
export const ACTION_CREATE: string = "create";
export const ACTION_REMOVE: string = "remove";
/** While it runs on. */
export const ACTION_CHANGE: string = "change";
/** It is ended, changed and started again; its disks stay. */
export const ACTION_RESTART: string = "restart";
/** It is removed, and created anew with new disks. */
export const ACTION_REPLACE: string = "replace";
export const ACTION_START: string = "start";
/** The host's name or its tenants. */
export const ACTION_HOST: string = "host";

/* Kinds of an event. */
export const EVENT_VM_CREATED: string = "vm-created";
export const EVENT_VM_STARTED: string = "vm-started";
export const EVENT_VM_RUNNING: string = "vm-running";
export const EVENT_VM_PAUSED: string = "vm-paused";
export const EVENT_VM_RESUMED: string = "vm-resumed";
export const EVENT_VM_STOPPING: string = "vm-stopping";
export const EVENT_VM_UNHEARD: string = "vm-unheard";
export const EVENT_VM_OFF: string = "vm-off";
export const EVENT_VM_RESET: string = "vm-reset";
export const EVENT_VM_ENDED: string = "vm-ended";
export const EVENT_VM_CRASHED: string = "vm-crashed";
export const EVENT_VM_CHANGED: string = "vm-changed";
export const EVENT_SPEC_APPLIED: string = "spec-applied";
export const EVENT_SPEC_UNDONE: string = "spec-undone";
export const EVENT_VM_REMOVED: string = "vm-removed";
export const EVENT_VM_SNAPSHOT: string = "vm-snapshot";
export const EVENT_VM_RESTORED: string = "vm-restored";
export const EVENT_VM_CLONED: string = "vm-cloned";
export const EVENT_VM_MOVED: string = "vm-moved";
export const EVENT_SNAPSHOT_REMOVED: string = "snapshot-removed";
export const EVENT_SNAPSHOT_IMPORTED: string = "snapshot-imported";
export const EVENT_VM_FAILED: string = "vm-failed";
export const EVENT_MODEL_FAILED: string = "model-failed";
export const EVENT_CONTROL_STARTED: string = "control-started";
export const EVENT_CONTROL_RESTARTED: string = "control-restarted";
export const EVENT_CONTROL_UPGRADE: string = "control-upgrade";
export const EVENT_CONTROL_UPGRADED: string = "control-upgraded";
export const EVENT_CONTROL_CONFIRMED: string = "control-confirmed";
export const EVENT_CONTROL_ROLLED_BACK: string = "control-rolledback";
/** Something that policy hooks have asked for. */
export const EVENT_POLICY: string = "policy";
export const EVENT_MEMORY_LOW: string = "memory-low";
export const EVENT_SPEC_ERROR: string = "spec-error";
export const EVENT_CONSOLE_TAKEN: string = "console-taken";
export const EVENT_TENANT_CHANGED: string = "tenant-changed";
export const EVENT_TENANT_REMOVED: string = "tenant-removed";
export const EVENT_VM_SQUEEZED: string = "vm-squeezed";
export const EVENT_VM_RELAXED: string = "vm-relaxed";
export const EVENT_POLICY_DENIED: string = "policy-denied";

/*
 * The link between the control domain and a device model: `t` of a message, and the other fields.
 * The rings and the configuration page are described in control/lib/link.ts.
 */
export const LINK_T: string = "t";
export const LINK_READY: string = "ready";
export const LINK_ERROR: string = "error";
export const LINK_OFF: string = "off";
export const LINK_RESET: string = "reset";
export const LINK_ENDED: string = "ended";
export const LINK_RUN: string = "run";
export const LINK_UNHEARD: string = "unheard";
export const LINK_POWER_BUTTON: string = "powerbutton";
export const LINK_BALLOON: string = "balloon";
export const LINK_STATS: string = "stats";
/** A VM goes on from a snapshot: `name`, `generation`, `wallClock`, `addresses` (of its cards, as `address`), `clone`. */
export const LINK_REBORN: string = "reborn";
export const LINK_ADDRESSES: string = "addresses";
export const LINK_CLONE: string = "clone";
export const LINK_TRAP: string = "trap";
export const LINK_VALUE: string = "value";
export const LINK_KERNEL_SIZE: string = "kernelSize";
export const LINK_INITRD_SIZE: string = "initrdSize";
export const LINK_FIRMWARE_SIZE: string = "firmwareSize";
export const LINK_FLASH_SIZE: string = "flashSize";
export const LINK_FLASH_FRESH: string = "flashFresh";
export const LINK_FRESH: string = "fresh";
export const LINK_ADDRESS: string = "address";
export const LINK_SIDE: string = "side";
export const LINK_INDEX: string = "index";
export const LINK_WALL_CLOCK: string = "wallClock";
export const LINK_TSC_HZ: string = "tscHz";
export const LINK_PHYSICAL_BITS: string = "physicalBits";
