// The names of VT-x basic exit reasons (Intel SDM, "VMX Basic Exit Reasons"), as `show` prints them.

const NAMES: string[] = [
  "exception-or-nmi", "external-interrupt", "triple-fault", "init", "sipi", "io-smi", "other-smi",
  "interrupt-window", "nmi-window", "task-switch", "cpuid", "getsec", "hlt", "invd", "invlpg", "rdpmc", "rdtsc",
  "rsm", "vmcall", "vmclear", "vmlaunch", "vmptrld", "vmptrst", "vmread", "vmresume", "vmwrite", "vmxoff",
  "vmxon", "control-register", "debug-register", "io", "rdmsr", "wrmsr", "entry-failed-state",
  "entry-failed-msr", "", "mwait", "monitor-trap", "", "monitor", "pause", "entry-failed-machine-check", "",
  "tpr-threshold", "apic-access", "virtualized-eoi", "gdtr-idtr", "ldtr-tr", "ept-violation",
  "ept-misconfiguration", "invept", "rdtscp", "preemption-timer", "invvpid", "wbinvd", "xsetbv", "apic-write",
  "rdrand", "invpcid", "vmfunc", "encls", "rdseed", "pml-full", "xsaves", "xrstors", "", "spp", "umwait", "tpause",
  "loadiwkey",
];

export function exitReasonName(reason: i32): string {
  const name = reason >= 0 && reason < NAMES.length ? NAMES[reason] : "";
  return name != "" ? name : "reason-" + reason.toString();
}
