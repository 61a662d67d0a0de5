# GDB commands that know the kernel's objects: `plinth help` lists them. `make debug` loads this file; so does
#   gdb build/kernel.elf -x boot/rigs/plinth-gdb.py
# The commands read memory only: they work on a running kernel that is stopped, and on the unit tests.

import gdb

PHYSMAP_BASE = 0xFFFF800000000000
ROLES = ["control", "device model", "driver", "VM"]
DOMAIN_STATES = ["active", "paused", "failed"]
VCPU_STATES = ["stopped", "ready", "halted", "waits for its device model", "failed"]
OBJECTS = ["none", "root", "domain", "vCPU", "memory", "channel", "timer", "IRQ"]
RIGHTS = ["read", "write", "execute", "grant", "control", "interrupt"]
TRACE = ["is switched to", "hypercall", "fails"]
GPRS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
SEGMENTS = "es cs ss ds fs gs gdtr ldtr idtr tr".split()
SVM_CODES = {
    0x10: "write to CR0", 0x60: "interrupt", 0x61: "NMI", 0x64: "interrupt window", 0x72: "CPUID", 0x74: "IRET",
    0x76: "INVD", 0x77: "PAUSE", 0x78: "HLT", 0x7B: "port", 0x7C: "MSR", 0x7F: "shutdown", 0x81: "VMMCALL",
    0x89: "WBINVD", 0x8D: "XSETBV", 0x400: "nested page fault",
}
EXCEPTIONS = {n: name for n, name in enumerate("DE DB NMI BP OF BR UD NM DF - TS NP SS GP PF - MF AC MC XM".split())}


def value(expression):
    return gdb.parse_and_eval(expression)


def exists(symbol):
    return gdb.lookup_symbol(symbol)[0] is not None or gdb.lookup_static_symbol(symbol) is not None


def text(array):
    return array.string("latin-1").split("\0")[0]


def name_of(names, number):
    number = int(number)
    return names[number] if number < len(names) else "? (%d)" % number


def bits_of(names, mask):
    found = [name for n, name in enumerate(names) if int(mask) >> n & 1]
    return "+".join(found) or "none"


def pointer_to(physical):
    """Where the kernel maps its own pages; in a unit test, where the test has its machine's memory."""
    return (int(value("arena")) if exists("arena") else PHYSMAP_BASE) + physical


def each(first, link):
    while int(first):
        yield first
        first = first[link]


def domain_of(word):
    """A domain by its number, or by its label, with or without "vm/"."""
    for domain in each(value("domains"), "next"):
        label = text(domain["label"])
        if word in (str(int(domain["id"])), label) or label == "vm/" + word:
            return domain
    raise gdb.GdbError('there is no domain "%s"; next: plinth domains' % word)


def cpu_of(words):
    """The CPU that is named, else that of GDB's thread: QEMU numbers them from 1."""
    online = int(value("cpus_online"))
    number = int(words[0], 0) if words else 0
    thread = gdb.selected_thread()
    if not words and thread is not None and thread.num <= online:
        number = thread.num - 1
    if number >= online:
        raise gdb.GdbError("there is no CPU %d: %d are up" % (number, online))
    return value("&cpus[%d]" % number)


def whose(vcpu):
    return "vCPU %d of domain %d, %s" % (
        int(vcpu["index"]), int(vcpu["domain"]["id"]), text(vcpu["domain"]["label"]),
    )


def print_domains(words):
    if not int(value("domains")):
        print("no domains: the kernel has not come so far")
    for domain in each(value("domains"), "next"):
        print("%4d  %-12s %-7s %-20s %2d vCPUs  %4d of %d slots  %d of %d pages" % (
            int(domain["id"]), name_of(ROLES, domain["role"]), name_of(DOMAIN_STATES, domain["state"]),
            text(domain["label"]), int(domain["vcpu_count"]), int(domain["caps_used"]), int(domain["cap_slots"]),
            int(domain["kernel_pages"]), int(domain["kernel_quota"]),
        ))


def print_caps(words):
    if len(words) != 1:
        raise gdb.GdbError("usage: plinth caps DOMAIN")
    domain = domain_of(words[0])
    for slot in range(int(domain["cap_slots"])):
        cap = domain["caps"][slot]
        if not int(cap["object"]):
            continue
        kind = name_of(OBJECTS, cap["object"]["type"])
        what = ""
        if kind == "domain":
            what = text(cap["object"].cast(gdb.lookup_type("struct domain").pointer())["label"])
        elif kind == "memory":
            what = "%d pages" % int(cap["object"].cast(gdb.lookup_type("struct memory").pointer())["pages"])
        elif kind == "channel":
            what = "end %d" % int(cap["end"])
        print("%5d  %-8s %-24s %s" % (slot, kind, what, bits_of(RIGHTS, cap["rights"])))


def print_trace(words):
    cpu = cpu_of(words)
    traced, size = int(cpu["traced"]), int(cpu["trace"].type.sizeof / cpu["trace"][0].type.sizeof)
    hz = int(value("tsc_hz"))
    if traced == 0:
        print("no events on CPU %d" % int(cpu["id"]))
    last = int(cpu["trace"][(traced - 1) % size]["time"]) if traced else 0
    for n in range(max(traced - size, 0), traced):
        event = cpu["trace"][n % size]
        us = (last - int(event["time"])) * 1000000 // hz if hz else 0
        kind, number = name_of(TRACE, event["kind"]), int(event["value"])
        more = "" if kind == TRACE[0] else " %d" % number
        if kind == TRACE[1]:
            more = " %d: status %d" % (number >> 8, number & 255)
        print("%10d us before the last: domain %d vCPU %d %s%s" % (
            us, int(event["domain"]), int(event["vcpu"]), kind, more))


def entry_words(entry, nested):
    """What an entry of a second-level table says."""
    if nested:
        rights = "r" + ("w" if entry & 2 else "-") + ("-" if entry >> 63 else "x") if entry & 1 else "---"
        flags = [("accessed", 5), ("dirty", 6)]
    else:
        rights = "".join(letter if entry >> n & 1 else "-" for n, letter in enumerate("rwx"))
        flags = [("accessed", 8), ("dirty", 9)]
    return " ".join([rights] + [name for name, bit in flags if entry >> bit & 1])


def print_walk(words):
    if len(words) != 2:
        raise gdb.GdbError("usage: plinth walk DOMAIN GUEST-PHYSICAL-ADDRESS")
    domain, address = domain_of(words[0]), int(value(words[1]))
    nested = exists("svm_exits")
    table, level = int(domain["ept"]["root"]), int(domain["ept"]["levels"])
    u64 = gdb.lookup_type("unsigned long").pointer()
    while level > 0:
        shift = 12 + 9 * (level - 1)
        entry = int(gdb.Value(table).cast(u64)[address >> shift & 511])
        frame = entry & 0x000FFFFFFFFFF000
        print("level %d  entry %3d  %016x  %s" % (level, address >> shift & 511, entry, entry_words(entry, nested)))
        leaf = level == 1 or entry >> 7 & 1
        if not entry & (1 if nested else 7) or leaf:
            break
        table, level = pointer_to(frame), level - 1
    size = 1 << shift
    if entry & (1 if nested else 7):
        print("0x%x is physical 0x%x, in a page of %d KiB" % (address, (frame & -size) + address % size, size >> 10))
    else:
        mapped = [m for m in each(domain["mappings"], "next_in_domain")
                  if 0 <= address - int(m["start"]["v"]) < int(m["pages"]) << 12]
        print("0x%x has no frame now: the next touch gets one" % address if mapped else "0x%x is not mapped" % address)


def exit_words(code):
    if 0x40 <= code < 0x60:
        return "exception #" + EXCEPTIONS.get(code - 0x40, str(code - 0x40))
    return SVM_CODES.get(code, "0x%x" % code)


def print_vmcb(b):
    print("  last exit: %s (code 0x%x, information 0x%x 0x%x)" % (
        exit_words(int(b["exit_code"])), int(b["exit_code"]), int(b["exit_info1"]), int(b["exit_info2"])))
    print("  rip %x  rsp %x  rflags %x  rax %x  cpl %d" % tuple(
        int(b[n]) for n in ("rip", "rsp", "rflags", "rax", "cpl")))
    print("  cr0 %x  cr2 %x  cr3 %x  cr4 %x  efer %x" % tuple(int(b[n]) for n in ("cr0", "cr2", "cr3", "cr4", "efer")))
    for n, name in enumerate(SEGMENTS):
        segment = b["segments"][n]
        print("  %-4s %04x  base %x  limit %x  attributes %03x" % (
            name, int(segment["selector"]), int(segment["base"]), int(segment["limit"]), int(segment["attributes"])))
    print("  ASID %d  nested CR3 %x  TSC offset %x  clean bits %x" % tuple(
        int(b[n]) for n in ("asid", "nested_cr3", "tsc_offset", "clean")))
    for what in ("event", "vectoring"):
        if int(b[what]) >> 31 & 1:
            print("  %s: vector %d, type %d, error %x" % (
                what, int(b[what]) & 255, int(b[what]) >> 8 & 7, int(b[what]) >> 32))


def print_vcpu(words):
    if len(words) == 2:
        vcpu = domain_of(words[0])["vcpus"][int(words[1], 0)]
        if not int(vcpu):
            raise gdb.GdbError("domain %s has no vCPU %s" % tuple(words))
    else:
        vcpu = cpu_of(words)["current"]
        if not int(vcpu):
            print("no vCPU: the CPU is idle, or the kernel has not come so far")
            return
    print("%s: %s, %d exits answered by its device model, %d interrupts" % (
        whose(vcpu), name_of(VCPU_STATES, vcpu["state"]), int(vcpu["forwarded"]), int(vcpu["interrupts"])))
    for n in range(0, 16, 4):
        print("  " + "  ".join("%-3s %016x" % (GPRS[m], int(vcpu["gpr"][m])) for m in range(n, n + 4)))
    if exists("svm_exits"):
        print_vmcb(vcpu["vmcb"].dereference())
    else:
        print("  the rest is in its VMCS, which only the CPU can read: Bochs's own debugger shows it (vmexitbp, info)")
    reasons = [(int(vcpu["counters"][n]), n) for n in range(vcpu["counters"].type.range()[1] + 1)]
    for count, reason in sorted(reasons, reverse=True)[:5]:
        if count:
            print("  %10d exits of reason %d" % (count, reason))


COMMANDS = {
    "domains": (print_domains, "all domains"),
    "vcpu": (print_vcpu, "[CPU], or DOMAIN INDEX: the vCPU that a CPU runs, or any, and its VMCB in words"),
    "walk": (print_walk, "DOMAIN ADDRESS: the second-level tables on the way to a guest-physical address"),
    "caps": (print_caps, "DOMAIN: its capabilities"),
    "trace": (print_trace, "[CPU]: the last rare events of a CPU"),
}


class Plinth(gdb.Command):
    """Plinth's objects: plinth help lists the commands."""

    def __init__(self):
        super().__init__("plinth", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        name, *words = gdb.string_to_argv(argument) or ["help"]
        if name in COMMANDS:
            COMMANDS[name][0](words)
        elif name == "help":
            for known, (_, summary) in COMMANDS.items():
                print("plinth %-8s %s" % (known, summary))
        else:
            raise gdb.GdbError('there is no command "plinth %s"; next: plinth help' % name)

    def complete(self, line, word):
        return [known for known in COMMANDS if known.startswith(word)] if " " not in line.strip() else []


Plinth()
