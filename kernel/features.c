/* Names the machine, and refuses one that lacks what Plinth needs. */
#include "features.h"

#include "guest.h"
#include "log.h"
#include "regs.h"
#include "x86.h"

struct machine machine;

#define CPUID_HYPERVISOR 0x40000000u
#define CPUID_EXTENDED   0x80000000u
#define CPUID_BRAND      0x80000002u

static void need(bool present, const char *missing) {
    if (!present) refuse("%s", missing);
}

void features_require(void) {
    struct cpuid_regs basic = cpuid(1, 0), extended = cpuid(CPUID_EXTENDED + 1, 0);
    need(basic.edx & CPUID_1_EDX_APIC, "this CPU has no local APIC, or firmware disabled it.");
    virt_require();
    need(extended.edx & CPUID_EXT_1_EDX_NX,
         "this CPU has no NX (execute-disable), or firmware disabled it.");
    need(extended.edx & CPUID_EXT_1_EDX_PAGE_1G, "this CPU has no 1 GiB pages.");
}

static void cpu_name_read(void) {
    u32 *words = (u32 *)machine.cpu_name;
    if (cpuid(CPUID_EXTENDED, 0).eax < CPUID_BRAND + 2) {
        memcpy(machine.cpu_name, "unnamed CPU", 12);
        return;
    }
    for (u32 i = 0; i < 3; i++) {
        struct cpuid_regs r = cpuid(CPUID_BRAND + i, 0);
        memcpy(words + 4 * i, &r, sizeof(r));
    }
    unsigned blanks = 0;
    while (machine.cpu_name[blanks] == ' ')
        blanks++;
    memmove(machine.cpu_name, machine.cpu_name + blanks, sizeof(machine.cpu_name) - blanks);
}

static const char *hypervisor_name(void) {
    static const struct {
        char signature[13];
        const char *name;
    } known[] = {
        {"KVMKVMKVM\0\0\0", "kvm"}, {"TCGTCGTCGTCG", "qemu"},    {"XenVMMXenVMM", "xen"},
        {"VMwareVMware", "vmware"}, {"Microsoft Hv", "hyper-v"},
    };
    struct cpuid_regs r = cpuid(CPUID_HYPERVISOR, 0);
    u32 signature[3] = {r.ebx, r.ecx, r.edx};
    for (u32 i = 0; i < ARRAY_SIZE(known); i++)
        if (!memcmp(signature, known[i].signature, sizeof(signature))) return known[i].name;
    return "hypervisor";
}

/* QEMU's firmware also calls itself BOCHS, but only QEMU has its configuration device. */
#define PORT_FW_CFG_SELECT 0x510
#define PORT_FW_CFG_DATA   0x511
#define FW_CFG_SIGNATURE   0

static bool is_qemu(void) {
    outw(PORT_FW_CFG_SELECT, FW_CFG_SIGNATURE);
    for (const char *c = "QEMU"; *c; c++)
        if (inb(PORT_FW_CFG_DATA) != (u8)*c) return false;
    return true;
}

void features_name(const struct acpi_info *acpi) {
    const char *rig = "bare metal";
    if (cpuid(1, 0).ecx & CPUID_1_ECX_HYPERVISOR)
        rig = hypervisor_name();
    else if (!memcmp(acpi->oem_id, "BOCHS ", 6))
        rig = is_qemu() ? "qemu" : "bochs";
    cpu_name_read();
    text_format(machine.rig, sizeof(machine.rig), "%s", rig);
    log_info("cpu: %s", machine.cpu_name);
    log_info("rig: %s", machine.rig);
}
