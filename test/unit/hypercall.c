// with:
/* Every hypercall with bad arguments of every kind, what the calls promise, and what a component
   must not be able to do to the kernel. */
#include "control.h"

#define MODEL    100u /* slots of the control domain in these tests */
#define VM       101u
#define MEMORY   102u
#define VCPU     103u
#define VM_VCPU  104u
#define OTHER    105u
#define CHANNEL  106u
#define CHANNEL2 107u
#define TIMER    108u
#define EMPTY    200u
#define NO_SLOT  9000u /* beyond the table */

static u64 free_at_start;

static struct vcpu *vcpu_in(u64 slot) { return vcpu_of(control_domain->caps[slot].object); }

static void pair_create(void) {
    bool ok = call(HC_DOMAIN_CREATE, MODEL, ROLE_DEVICE_MODEL, 100, 64) == STATUS_OK;
    ok &= call(HC_DOMAIN_CREATE, VM, ROLE_VM, 100, 16) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, MEMORY, 70) == STATUS_OK;
    ok &= call(HC_MEM_MAP, MODEL, MEMORY, GPA_RAM, 0, 20, RIGHT_READ | RIGHT_WRITE) == STATUS_OK;
    ok &= call(HC_MEM_MAP, VM, MEMORY, 0, 20, 50, 7) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, VCPU, MODEL, 0, 0) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, VM_VCPU, VM, 0, MODEL) == STATUS_OK;
    ok &= call(HC_CAP_GRANT, MODEL, CAP_VM, VM, RIGHT_READ | RIGHT_INTERRUPT) == STATUS_OK;
    ok &= call(HC_CAP_GRANT, MODEL, CAP_VCPU, VM_VCPU, RIGHT_ALL) == STATUS_OK;
    check(ok, "a VM with its device model is made");
    set_state(VM_VCPU);
}

static void pair_destroy(void) {
    to_control();
    (void)call(HC_DOMAIN_DESTROY, VM);
    to_control();
    (void)call(HC_DOMAIN_DESTROY, MODEL);
    (void)call(HC_CAP_DROP, MEMORY);
    sound("sound after the pair is destroyed");
}

struct row {
    const char *name;
    u32 status;
    u64 number, a[6];
};

#define RIGHTS_RW (RIGHT_READ | RIGHT_WRITE)
static const struct row rows[] = {
    {"no such call", STATUS_BAD_CALL, HC_COUNT, {0}},
    {"a call of 64 bits", STATUS_BAD_CALL, 1ull << 32, {0}},
    {"LOG: too long", STATUS_BAD_ARGUMENT, HC_LOG, {512}},
    {"LOG: length of 64 bits", STATUS_BAD_ARGUMENT, HC_LOG, {~0ull}},
    {"CAP_INFO: no slot", STATUS_BAD_CAP, HC_CAP_INFO, {NO_SLOT}},
    {"CAP_GRANT: no domain", STATUS_BAD_CAP, HC_CAP_GRANT, {EMPTY, 40, MEMORY, 63}},
    {"CAP_GRANT: to memory", STATUS_BAD_CAP, HC_CAP_GRANT, {MEMORY, 40, MEMORY, 63}},
    {"CAP_GRANT: taken slot", STATUS_IN_USE, HC_CAP_GRANT, {MODEL, CAP_SELF, MEMORY, 63}},
    {"CAP_GRANT: slot 0", STATUS_BAD_CAP, HC_CAP_GRANT, {MODEL, CAP_NULL, MEMORY, 63}},
    {"CAP_GRANT: beyond its table", STATUS_BAD_CAP, HC_CAP_GRANT, {MODEL, 64, MEMORY, 63}},
    {"CAP_GRANT: empty source", STATUS_BAD_CAP, HC_CAP_GRANT, {MODEL, 40, EMPTY, 63}},
    {"CAP_GRANT: the root", STATUS_NO_RIGHT, HC_CAP_GRANT, {MODEL, 40, CAP_ROOT, 63}},
    {"CAP_REVOKE: empty", STATUS_BAD_CAP, HC_CAP_REVOKE, {EMPTY}},
    {"CAP_DROP: empty", STATUS_BAD_CAP, HC_CAP_DROP, {EMPTY}},
    {"CAP_DROP: itself", STATUS_BAD_STATE, HC_CAP_DROP, {CAP_SELF}},
    {"DOMAIN_CREATE: taken slot", STATUS_IN_USE, HC_DOMAIN_CREATE, {MODEL, 1, 100, 64}},
    {"DOMAIN_CREATE: a control domain", STATUS_BAD_ARGUMENT, HC_DOMAIN_CREATE, {EMPTY, 0, 100, 64}},
    {"DOMAIN_CREATE: no such role", STATUS_BAD_ARGUMENT, HC_DOMAIN_CREATE, {EMPTY, 4, 100, 64}},
    {"DOMAIN_CREATE: quota too small", STATUS_BAD_ARGUMENT, HC_DOMAIN_CREATE, {EMPTY, 1, 7, 64}},
    {"DOMAIN_CREATE: huge quota", STATUS_BAD_ARGUMENT, HC_DOMAIN_CREATE, {EMPTY, 1, ~0ull, 64}},
    {"DOMAIN_CREATE: more than free", STATUS_NO_MEMORY, HC_DOMAIN_CREATE, {EMPTY, 1, 1 << 20, 64}},
    {"DOMAIN_CREATE: one slot", STATUS_BAD_ARGUMENT, HC_DOMAIN_CREATE, {EMPTY, 1, 100, 1}},
    {"DOMAIN_CREATE: many slots", STATUS_BAD_ARGUMENT, HC_DOMAIN_CREATE, {EMPTY, 1, 100, 4097}},
    {"DOMAIN_CREATE: slots over quota", STATUS_NO_QUOTA, HC_DOMAIN_CREATE, {EMPTY, 1, 8, 4096}},
    {"DOMAIN_DESTROY: itself", STATUS_BAD_STATE, HC_DOMAIN_DESTROY, {CAP_SELF}},
    {"DOMAIN_DESTROY: memory", STATUS_BAD_CAP, HC_DOMAIN_DESTROY, {MEMORY}},
    {"DOMAIN_PAUSE: a component", STATUS_BAD_CAP, HC_DOMAIN_PAUSE, {MODEL}},
    {"DOMAIN_RESUME: it runs", STATUS_BAD_STATE, HC_DOMAIN_RESUME, {VM}},
    {"DOMAIN_INFO: memory", STATUS_BAD_CAP, HC_DOMAIN_INFO, {MEMORY}},
    {"MEM_CREATE: no pages", STATUS_BAD_ARGUMENT, HC_MEM_CREATE, {EMPTY, 0}},
    {"MEM_CREATE: taken", STATUS_IN_USE, HC_MEM_CREATE, {MEMORY, 70}},
    {"MEM_CREATE: taken by a domain", STATUS_IN_USE, HC_MEM_CREATE, {MODEL, 1}},
    {"MEM_CREATE: more than there is", STATUS_NO_MEMORY, HC_MEM_CREATE, {EMPTY, 1 << 20}},
    {"MEM_CREATE: one slot twice", STATUS_IN_USE, HC_MEM_CREATE, {CAP_MEMORY, 1, CAP_SELF}},
    {"MEM_CREATE: 2^64 - 1 pages", STATUS_NO_MEMORY, HC_MEM_CREATE, {EMPTY, ~0ull}},
    {"MEM_CLONE: taken", STATUS_IN_USE, HC_MEM_CLONE, {MODEL, MEMORY}},
    {"MEM_CLONE: no memory", STATUS_BAD_CAP, HC_MEM_CLONE, {EMPTY, VM}},
    {"MEM_CLONE: a boot module", STATUS_BAD_STATE, HC_MEM_CLONE, {EMPTY, CAP_MODULE}},
    {"MEM_CLONE: no domain pays", STATUS_BAD_CAP, HC_MEM_CLONE, {EMPTY, MEMORY, MEMORY, 9}},
    {"MEM_CLONE: no slot in it", STATUS_BAD_CAP, HC_MEM_CLONE, {EMPTY, MEMORY, VM, 0}},
    {"MEM_CLONE: one slot twice", STATUS_IN_USE, HC_MEM_CLONE, {EMPTY, MEMORY, CAP_SELF, EMPTY}},
    {"MEM_PROMISE: no memory", STATUS_BAD_CAP, HC_MEM_PROMISE, {VM, 1}},
    {"MEM_PROMISE: a boot module", STATUS_BAD_STATE, HC_MEM_PROMISE, {CAP_MODULE, 1}},
    {"MEM_PROMISE: more than it has", STATUS_BAD_ARGUMENT, HC_MEM_PROMISE, {MEMORY, 71}},
    {"MEM_PROMISE: 2^64 - 1 pages", STATUS_BAD_ARGUMENT, HC_MEM_PROMISE, {MEMORY, ~0ull}},
    {"MEM_DIFF: no memory", STATUS_BAD_CAP, HC_MEM_DIFF, {VM, 0, 0}},
    {"MEM_DIFF: from no memory", STATUS_BAD_CAP, HC_MEM_DIFF, {MEMORY, VM, 0}},
    {"MEM_DIFF: another size", STATUS_BAD_ARGUMENT, HC_MEM_DIFF, {MEMORY, CAP_MODULE, 0}},
    {"MEM_DIFF: past its end", STATUS_BAD_ARGUMENT, HC_MEM_DIFF, {MEMORY, 0, 71}},
    {"MEM_DIFF: a boot module", STATUS_BAD_STATE, HC_MEM_DIFF, {CAP_MODULE, 0, 0}},
    {"MEM_MAP: misaligned", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB + 1, 0, 1, 1}},
    {"MEM_MAP: no pages", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, 0, 0, 1}},
    {"MEM_MAP: past its end", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, 69, 2, 1}},
    {"MEM_MAP: first page past it", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, 70, 1, 1}},
    {"MEM_MAP: pages wrap", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, 1, ~0ull, 1}},
    {"MEM_MAP: first wraps", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, ~0ull, 2, 1}},
    {"MEM_MAP: address past the limit",
     STATUS_BAD_ARGUMENT,
     HC_MEM_MAP,
     {VM, MEMORY, EPT_ADDRESS_LIMIT, 0, 1, 1}},
    {"MEM_MAP: crosses the limit",
     STATUS_BAD_ARGUMENT,
     HC_MEM_MAP,
     {VM, MEMORY, EPT_ADDRESS_LIMIT - PAGE_SIZE, 0, 2, 1}},
    {"MEM_MAP: address wraps", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, ~0xfffull, 0, 2, 1}},
    {"MEM_MAP: no access", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, 0, 1, 0}},
    {"MEM_MAP: write without read", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, 0, 1, 2}},
    {"MEM_MAP: unknown access", STATUS_BAD_ARGUMENT, HC_MEM_MAP, {VM, MEMORY, MIB, 0, 1, 9}},
    {"MEM_MAP: over what is mapped", STATUS_IN_USE, HC_MEM_MAP, {VM, MEMORY, 0, 0, 1, 1}},
    {"MEM_MAP: over a comm page", STATUS_IN_USE, HC_MEM_MAP, {MODEL, MEMORY, GPA_COMM, 0, 1, 1}},
    {"MEM_MAP: over an exit page", STATUS_IN_USE, HC_MEM_MAP, {MODEL, MEMORY, GPA_EXIT, 0, 1, 1}},
    {"MEM_MAP: a module for writing", STATUS_NO_RIGHT, HC_MEM_MAP, {VM, CAP_MODULE, MIB, 0, 1, 3}},
    {"MEM_UNMAP: a part", STATUS_BAD_ARGUMENT, HC_MEM_UNMAP, {VM, 0, 1}},
    {"MEM_UNMAP: nothing there", STATUS_BAD_ARGUMENT, HC_MEM_UNMAP, {VM, MIB, 1}},
    {"MEM_UNMAP: control's own RAM",
     STATUS_BAD_ARGUMENT,
     HC_MEM_UNMAP,
     {CAP_SELF, GPA_RAM, CONTROL_RAM / PAGE_SIZE}},
    {"VCPU_CREATE: taken index", STATUS_IN_USE, HC_VCPU_CREATE, {EMPTY, VM, 0, MODEL}},
    {"VCPU_CREATE: no such index", STATUS_BAD_ARGUMENT, HC_VCPU_CREATE, {EMPTY, VM, 16, MODEL}},
    {"VCPU_CREATE: index of 64 bits",
     STATUS_BAD_ARGUMENT,
     HC_VCPU_CREATE,
     {EMPTY, VM, 1ull << 32, MODEL}},
    {"VCPU_CREATE: VM without model", STATUS_BAD_ARGUMENT, HC_VCPU_CREATE, {EMPTY, VM, 1, 0}},
    {"VCPU_CREATE: its own model", STATUS_BAD_ARGUMENT, HC_VCPU_CREATE, {EMPTY, VM, 1, VM}},
    {"VCPU_CREATE: control as model",
     STATUS_BAD_ARGUMENT,
     HC_VCPU_CREATE,
     {EMPTY, VM, 1, CAP_SELF}},
    {"VCPU_CREATE: second of a component",
     STATUS_BAD_ARGUMENT,
     HC_VCPU_CREATE,
     {EMPTY, MODEL, 1, 0}},
    {"VCPU_CREATE: a model with a model",
     STATUS_BAD_ARGUMENT,
     HC_VCPU_CREATE,
     {EMPTY, MODEL, 0, MODEL}},
    {"VCPU_SET: a component", STATUS_BAD_STATE, HC_VCPU_SET, {VCPU}},
    {"VCPU_SET: a domain", STATUS_BAD_CAP, HC_VCPU_SET, {VM}},
    {"VCPU_GET: a component", STATUS_BAD_STATE, HC_VCPU_GET, {VCPU}},
    {"VCPU_START: nothing", STATUS_BAD_CAP, HC_VCPU_START, {EMPTY}},
    {"VCPU_INTERRUPT: a component", STATUS_BAD_ARGUMENT, HC_VCPU_INTERRUPT, {VCPU, 0, 32}},
    {"VCPU_INTERRUPT: no such kind", STATUS_BAD_ARGUMENT, HC_VCPU_INTERRUPT, {VM_VCPU, 3, 32}},
    {"VCPU_INTERRUPT: no such vector", STATUS_BAD_ARGUMENT, HC_VCPU_INTERRUPT, {VM_VCPU, 0, 256}},
    {"MSI: to a component", STATUS_BAD_CAP, HC_MSI, {MODEL, 0xfee00000, 32}},
    {"MSI: not an MSI address", STATUS_BAD_ARGUMENT, HC_MSI, {VM, 0xfed00000, 32}},
    {"MSI: an address of 64 bits", STATUS_BAD_ARGUMENT, HC_MSI, {VM, 1ull << 40 | 0xfee00000, 32}},
    {"CPUID_SET: too many rows", STATUS_BAD_ARGUMENT, HC_CPUID_SET, {VM, MAX_CPUID_ROWS + 1}},
    {"CPUID_SET: 2^64 - 1 rows", STATUS_BAD_ARGUMENT, HC_CPUID_SET, {VM, ~0ull}},
    {"DOORBELL: a component", STATUS_BAD_CAP, HC_DOORBELL, {MODEL, 0x80, 0, 20}},
    {"DOORBELL: no such port", STATUS_BAD_ARGUMENT, HC_DOORBELL, {VM, 0x10000, 0, 20}},
    {"DOORBELL: an event of the kernel", STATUS_BAD_ARGUMENT, HC_DOORBELL, {VM, 0x80, 0, 16}},
    {"DOORBELL: event 64", STATUS_BAD_ARGUMENT, HC_DOORBELL, {VM, 0x80, 0, 64}},
    {"DOORBELL: removes none", STATUS_BAD_ARGUMENT, HC_DOORBELL, {VM, 0x80, 0, 0}},
    {"CHANNEL_CREATE: one slot twice", STATUS_BAD_ARGUMENT, HC_CHANNEL_CREATE, {EMPTY, EMPTY}},
    {"CHANNEL_CREATE: taken", STATUS_IN_USE, HC_CHANNEL_CREATE, {EMPTY, MEMORY}},
    {"CHANNEL_BIND: memory", STATUS_BAD_CAP, HC_CHANNEL_BIND, {MEMORY, 20}},
    {"CHANNEL_SIGNAL: memory", STATUS_BAD_CAP, HC_CHANNEL_SIGNAL, {MEMORY}},
    {"TIMER_CREATE: an event of the kernel", STATUS_BAD_ARGUMENT, HC_TIMER_CREATE, {EMPTY, 0}},
    {"TIMER_CREATE: taken", STATUS_IN_USE, HC_TIMER_CREATE, {MEMORY, 20}},
    {"TIMER_SET: memory", STATUS_BAD_CAP, HC_TIMER_SET, {MEMORY, 1}},
    {"IRQ_CREATE: no such IRQ", STATUS_BAD_ARGUMENT, HC_IRQ_CREATE, {EMPTY, 16, 20}},
    {"IRQ_CREATE: IRQ of 64 bits", STATUS_BAD_ARGUMENT, HC_IRQ_CREATE, {EMPTY, 1ull << 32, 20}},
    {"IRQ_CREATE: without an input", STATUS_BAD_ARGUMENT, HC_IRQ_CREATE, {EMPTY, 2, 20}},
    {"IRQ_ACK: memory", STATUS_BAD_CAP, HC_IRQ_ACK, {MEMORY}},
    {"FIRMWARE_READ: RAM", STATUS_BAD_ARGUMENT, HC_FIRMWARE_READ, {MIB, 16}},
    {"FIRMWARE_READ: the last page of RAM",
     STATUS_BAD_ARGUMENT,
     HC_FIRMWARE_READ,
     {ARENA_SIZE - PAGE_SIZE, 16}},
    {"FIRMWARE_READ: across a page", STATUS_BAD_ARGUMENT, HC_FIRMWARE_READ, {0xf0ff8, 9}},
    {"FIRMWARE_READ: across all", STATUS_BAD_ARGUMENT, HC_FIRMWARE_READ, {0xf0000, ~0ull}},
    {"FIRMWARE_READ: no such address", STATUS_BAD_ARGUMENT, HC_FIRMWARE_READ, {1ull << 46, 8}},
    {"UPGRADE: empty", STATUS_BAD_CAP, HC_UPGRADE, {EMPTY}},
    {"UPGRADE: a domain", STATUS_BAD_CAP, HC_UPGRADE, {VM}},
    {"UPGRADE: a slot of 64 bits", STATUS_BAD_CAP, HC_UPGRADE, {1ull << 32}},
    {"UPGRADE: a boot module", STATUS_NO_RIGHT, HC_UPGRADE, {CAP_MODULE}},
    {"UPGRADE: nothing to confirm", STATUS_BAD_STATE, HC_UPGRADE, {0}},
    {"CAP_LIST: memory", STATUS_BAD_CAP, HC_CAP_LIST, {MEMORY, HOLDING_CAPS, 0}},
    {"CAP_LIST: no such holding", STATUS_BAD_ARGUMENT, HC_CAP_LIST, {VM, HOLDING_PORTS + 1, 0}},
    {"CAP_LIST: holding of 64 bits", STATUS_BAD_ARGUMENT, HC_CAP_LIST, {VM, 1ull << 32, 0}},
    {"PORTS_MAP: none", STATUS_BAD_ARGUMENT, HC_PORTS_MAP, {MODEL, 0x80, 0}},
    {"PORTS_MAP: past the last", STATUS_BAD_ARGUMENT, HC_PORTS_MAP, {MODEL, 0xffff, 2}},
    {"PORTS_MAP: count wraps", STATUS_BAD_ARGUMENT, HC_PORTS_MAP, {MODEL, 0x80, ~0ull}},
    {"PORTS_MAP: first of 64 bits", STATUS_BAD_ARGUMENT, HC_PORTS_MAP, {MODEL, 1ull << 32, 1}},
};

static void test_bad_arguments(void) {
    pair_create();
    const char *wrong = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct row *row = &rows[i];
        const u64 *a = row->a;
        u64 free_before = frame_free_count(), reserved = kernel_pages_reserved;
        u32 caps = control_domain->caps_used;
        u32 status = call(row->number, a[0], a[1], a[2], a[3], a[4], a[5]);
        bool nothing = frame_free_count() == free_before && caps == control_domain->caps_used &&
                       kernel_pages_reserved == reserved;
        if (status != row->status) printf("# status %u, not %u\n", status, row->status);
        check(status == row->status && nothing, row->name);
        wrong = wrong ? wrong : kernel_wrong(fixed);
    }
    check(!wrong, wrong ? wrong : "bad arguments change nothing");
    pair_destroy();
}

/* A device model has none of what makes objects or rules others. */
static void test_no_rights(void) {
    static const u64 for_root[] = {
        HC_MEM_CLONE,   HC_MEM_PROMISE, HC_DOMAIN_CREATE, HC_MEM_CREATE,
        HC_VCPU_CREATE, HC_IRQ_CREATE,  HC_PORTS_MAP,     HC_HOST_INFO,
        HC_HOST_CPUID,  HC_HOST_LOG,    HC_HOST_RESET,    HC_FIRMWARE_READ,
        HC_UPGRADE,     HC_CAP_LIST,    HC_MEM_NODES,     HC_PARTITION};
    pair_create();
    (void)call(HC_VCPU_START, VCPU);
    struct domain *model = domain_in(MODEL);
    while (entered->domain != model)
        (void)call(HC_WAIT);
    bool refused = true;
    for (unsigned i = 0; i < ARRAY_SIZE(for_root); i++)
        refused &= call(for_root[i], 40, 1, 1, 1) == STATUS_BAD_CAP;
    check(refused && !host_reset, "a device model makes no domains, memory or vCPUs");
    check(call(HC_DOMAIN_PAUSE, CAP_VM) == STATUS_NO_RIGHT, "nor pauses its VM");
    check(call(HC_DOMAIN_DESTROY, CAP_VM) == STATUS_NO_RIGHT, "nor destroys it");
    check(call(HC_DOMAIN_DESTROY, CAP_SELF) == STATUS_NO_RIGHT, "nor itself");
    check(call(HC_CAP_GRANT, CAP_SELF, 40, CAP_VM, 63) == STATUS_NO_RIGHT, "nor grants");
    check(call(HC_MEM_UNMAP, CAP_SELF, GPA_RAM, 20) == STATUS_NO_RIGHT, "nor unmaps");
    check(call(HC_MEM_MAP, CAP_VM, CAP_MEMORY, MIB, 0, 1, 1) == STATUS_NO_RIGHT, "nor its VM's");
    check(call(HC_MEM_UNMAP, CAP_VM, 0, 50) == STATUS_NO_RIGHT, "which it does not unmap either");
    check(call(HC_CAP_DROP, CAP_SELF) == STATUS_BAD_STATE, "nor lets go of itself");
    check(call(HC_CHANNEL_CREATE, 40, 41) == STATUS_OK, "it makes channels");
    check(call(HC_TIMER_CREATE, 42, 20) == STATUS_OK, "and timers");
    sound("sound with a device model's objects");
    u64 created = 0;
    u32 status = STATUS_OK;
    for (u64 slot = 43; slot < 64 && status == STATUS_OK; slot++, created++)
        status = call(HC_TIMER_CREATE, slot, 20);
    check(created == 21, "until its slots are used");
    (void)call(HC_WAIT);
    pair_destroy();
}

/* With the right to write to its VM a device model maps what it has itself, and no more. */
static void test_maps_into_vm(void) {
    pair_create();
    (void)call(HC_CAP_GRANT, MODEL, CAP_MEMORY, MEMORY, RIGHT_READ);
    (void)call(HC_CAP_GRANT, MODEL, 40, VM, RIGHT_WRITE);
    struct domain *vm = domain_in(VM);
    (void)call(HC_VCPU_START, VCPU);
    while (entered->domain != domain_in(MODEL))
        (void)call(HC_WAIT);
    u64 mapped = vm->ept.mapped;
    check(call(HC_MEM_MAP, 40, CAP_MEMORY, MIB, 0, 2, 3) == STATUS_NO_RIGHT, "not for writing");
    check(call(HC_MEM_MAP, 40, MEMORY, MIB, 0, 2, 1) == STATUS_BAD_CAP, "not what it has not");
    check(call(HC_DOMAIN_DESTROY, 40) == STATUS_NO_RIGHT, "it does not destroy its VM");
    check(call(HC_MEM_MAP, 40, CAP_MEMORY, MIB, 0, 2, 1) == STATUS_OK, "it maps into its VM");
    check(vm->ept.mapped == mapped + 2, "two pages");
    check(call(HC_MEM_UNMAP, 40, MIB, 2) == STATUS_OK && vm->ept.mapped == mapped, "and unmaps");
    check(call(HC_MEM_MAP, 40, CAP_MEMORY, MIB, 0, 2, 1) == STATUS_OK, "and maps again");
    check(call(HC_CAP_DROP, CAP_MEMORY) == STATUS_OK && vm->ept.mapped == mapped,
          "which ends with its capability");
    (void)call(HC_WAIT);
    pair_destroy();
}

static u64 listed(u64 domain, u64 what, u64 from) {
    memset(control_domain->comm, 0xa5, PAGE_SIZE);
    return call(HC_CAP_LIST, domain, what, from) == STATUS_OK ? entered->gpr[2] : ~0ull;
}

/* All that a domain holds can be read, in pieces, and two tables can be compared. */
static void test_lists(void) {
    pair_create();
    const struct cap_info *rows = control_domain->comm;
    check(listed(MODEL, HOLDING_CAPS, 0) == 3 && rows[0].type == OBJECT_DOMAIN &&
              rows[0].first == CAP_SELF && rows[1].first == CAP_VM &&
              rows[1].rights == (RIGHT_READ | RIGHT_INTERRUPT) &&
              rows[1].domain_id == domain_in(VM)->id && rows[2].type == OBJECT_VCPU &&
              rows[2].first == CAP_VCPU,
          "a table's capabilities");
    check(listed(MODEL, HOLDING_CAPS, CAP_VM + 1) == 1 && rows[0].first == CAP_VCPU,
          "from a slot on");
    check(listed(MODEL, HOLDING_CAPS, ~0ull) == 0 && listed(MODEL, HOLDING_MAPPINGS, ~0ull) == 0 &&
              listed(MODEL, HOLDING_PORTS, ~0ull) == 0,
          "nothing is behind the end");
    check(listed(VM, HOLDING_MAPPINGS, 0) == 1, "a VM's memory");
    struct cap_info vm = rows[0];
    check(listed(MODEL, HOLDING_MAPPINGS, 0) == 1 && rows[0].object_id == vm.object_id &&
              rows[0].address == GPA_RAM && rows[0].first == 0 && rows[0].pages == 20 &&
              rows[0].rights == RIGHTS_RW && vm.first == 20 && vm.pages == 50 && vm.rights == 7,
          "is the object that its device model has a part of");
    for (u64 page = 0; page < 60; page++)
        (void)call(HC_MEM_MAP, VM, MEMORY, MIB + 2 * page * PAGE_SIZE, 0, 1, 1);
    u64 first = listed(VM, HOLDING_MAPPINGS, 0), last = rows[first - 1].address;
    u64 rest = listed(VM, HOLDING_MAPPINGS, first);
    check(first == PAGE_SIZE / sizeof(*rows) && first + rest == 61 && rows[0].address != last,
          "what is more than a page comes in pieces");
    check(listed(VM, HOLDING_PORTS, 0) == 0, "a VM has no ports");
    check(call(HC_DOMAIN_CREATE, OTHER, ROLE_DRIVER, 60, 16) == STATUS_OK, "a driver");
    (void)call(HC_PORTS_MAP, OTHER, 0x60, 1);
    (void)call(HC_PORTS_MAP, OTHER, 0x3f8, 8);
    (void)call(HC_PORTS_MAP, OTHER, 0x400, 1);
    (void)call(HC_PORTS_MAP, OTHER, 0xffff, 1);
    check(listed(OTHER, HOLDING_PORTS, 0) == 3 && rows[0].address == 0x60 && rows[0].pages == 1 &&
              rows[1].address == 0x3f8 && rows[1].pages == 9 && rows[2].address == 0xffff,
          "runs of ports");
    check(listed(OTHER, HOLDING_PORTS, 0x3fa) == 2 && rows[0].address == 0x3fa &&
              rows[0].pages == 7,
          "from a port on");
    for (u64 port = 0x1000; port < 0x1100; port += 2)
        (void)call(HC_PORTS_MAP, OTHER, port, 1);
    u64 runs = 0;
    for (u64 from = 0, n; (n = listed(OTHER, HOLDING_PORTS, from)) && n != ~0ull; runs += n)
        from = rows[n - 1].address + rows[n - 1].pages;
    check(runs == 131, "each run once");
    (void)call(HC_DOMAIN_INFO, VM);
    struct domain_info info = *(struct domain_info *)control_domain->comm;
    (void)call(HC_DOMAIN_INFO, MODEL);
    check(info.peer == domain_in(MODEL)->id &&
              ((struct domain_info *)control_domain->comm)->peer == domain_in(VM)->id,
          "and a VM and its device model tell each other");
    (void)call(HC_DOMAIN_DESTROY, OTHER);
    pair_destroy();
}

/* The others go on until it is this one's turn. */
static void until_enters(const struct vcpu *vcpu) {
    while (entered != vcpu)
        if (entered->domain->role == ROLE_VM)
            leave(REASON_EXTERNAL_INTERRUPT);
        else
            (void)call(HC_WAIT);
}

/* What all device models of a tenant may do together. */
static void check_tenant_brakes(struct domain *model, struct vcpu *caller) {
    model->tenant = 5;
    check(call(HC_BRAKE, 5, 0, 0, 2, 600) == STATUS_NO_RIGHT ||
              call(HC_BRAKE, 5, 0, 0, 2, 600) == STATUS_BAD_CAP,
          "no component sets its tenant's limits");
    (void)!brake_set(5, 0, 0, 2, 600);
    host_tsc += 2 * HOST_TSC_HZ;
    u64 throttled = model->throttled, dropped = model->log.dropped_ever;
    unsigned lines = log_lines;
    (void)call(HC_LOG, 500);
    host_tsc += HOST_TSC_HZ / BRAKE_PERIODS + 1;
    (void)call(HC_LOG, 100);
    check(log_lines == lines + 1 && model->log.dropped_ever == dropped + 1,
          "lines of less than a component may write are too many for its tenant");
    (void)call(HC_CAP_INFO, CAP_SELF);
    check(model->throttled == throttled, "two calls in a tenth of a second");
    caller->busy_since = 0;
    caller->gpr[0] = HC_CAP_INFO;
    u64 rip = guest_rip(caller);
    leave(REASON_VMCALL);
    check(model->throttled == throttled + 1 && guest_rip(caller) == rip, "and a third one waits");
    check(caller->busy_since > 0, "which is not its fault");
    until_enters(caller);
    host_tsc += HOST_TSC_HZ / BRAKE_PERIODS + 1;
    leave(REASON_VMCALL);
    check(guest_rip(caller) != rip, "for the next tenth");
    host_tsc += 2 * HOST_TSC_HZ;
    model->tenant = 0;
    for (unsigned i = 0; i < 3; i++)
        (void)call(HC_CAP_INFO, CAP_SELF);
    check(model->throttled == throttled + 1, "others have no part in it");
    (void)!brake_set(5, 0, 0, 0, 0);
}

/* One component can neither silence another nor keep it from the kernel. */
static void test_brakes(void) {
    pair_create();
    (void)call(HC_VCPU_START, VCPU);
    struct domain *model = domain_in(MODEL);
    while (entered->domain != model)
        (void)call(HC_WAIT);
    memset(model->comm, 'x', 500);
    unsigned lines = log_lines;
    host_tsc += 2 * HOST_TSC_HZ;
    for (unsigned i = 0; i < 100; i++)
        if (call(HC_LOG, 500) != STATUS_OK) panic("LOG");
    check(log_lines == lines + 1 && model->log.dropped_ever == 99, "a flood of lines is cut");
    lines = log_lines;
    host_tsc += 2 * HOST_TSC_HZ;
    (void)call(HC_LOG, 1);
    check(log_lines == lines + 1, "a second later it may speak again");
    (void)call(HC_LOG, 500);
    to_control();
    lines = log_lines;
    for (unsigned i = 0; i < 20; i++)
        (void)call(HC_LOG, 500);
    check(log_lines == lines + 20, "the control domain is heard");
    domain_signal(model, 1ull << 40);
    while (entered->domain != model)
        (void)call(HC_WAIT);
    struct vcpu *caller = entered;
    model->calls_since = host_tsc += HOST_TSC_HZ;
    model->calls = CALLS_MOST - 1;
    (void)call(HC_CAP_INFO, CAP_SELF);
    check(!model->throttled && entered == caller, "as many calls as it may make");
    u64 rip = guest_rip(caller);
    caller->gpr[0] = HC_CAP_INFO;
    model->calls_since = host_tsc;
    leave(REASON_VMCALL);
    check(model->throttled == 1 && guest_rip(caller) == rip, "one more is not done");
    until_enters(caller);
    host_tsc += HOST_TSC_HZ / CALL_PERIODS + 1;
    leave(REASON_VMCALL);
    check(guest_rip(caller) != rip && caller->gpr[0] == STATUS_OK, "until the next period");
    check_tenant_brakes(model, caller);
    to_control();
    (void)call(HC_DOMAIN_INFO, MODEL);
    const struct domain_info *info = control_domain->comm;
    check(info->throttled == model->throttled && info->log_dropped == model->log.dropped_ever,
          "the control domain can see it");
    control_domain->calls = CALLS_MOST;
    check(call(HC_CAP_INFO, CAP_SELF) == STATUS_OK && !control_domain->throttled,
          "which may call as it likes");
    check(call(HC_BRAKE, 5, 1, 1, 1, 1) == STATUS_OK && call(HC_BRAKE, 5) == STATUS_OK &&
              call(HC_BRAKE, 0, 1) == STATUS_BAD_ARGUMENT &&
              call(HC_BRAKE, TENANTS, 1) == STATUS_BAD_ARGUMENT &&
              call(HC_BRAKE, 5, 0, 0, 0, 1ull << 32) == STATUS_BAD_ARGUMENT,
          "and sets the limits of tenants");
    pair_destroy();
}

static void test_firmware(void) {
    memcpy(arena + 0xf0ff8, "RSD PTR ", 8);
    memset(control_domain->comm, 0, 16);
    check(call(HC_FIRMWARE_READ, 0xf0ff8, 8) == STATUS_OK &&
              !memcmp(control_domain->comm, "RSD PTR \0", 9),
          "memory that is not RAM can be read, up to the end of its page");
    check(call(HC_FIRMWARE_READ, ARENA_SIZE, 8) == STATUS_OK, "and where nothing is");
}

static u8 *page_of(struct memory *memory, u64 page) {
    unsigned order;
    u64 entry = ept_lookup(&memory->map, gpa(page << PAGE_SHIFT), &order);
    return entry ? arena + (entry & EPT_FRAME) + (page % (1u << order) << PAGE_SHIFT) : NULL;
}

static bool is_zero(struct memory *memory, u64 first, u64 pages) {
    for (u64 page = first; page < first + pages; page++)
        for (unsigned i = 0; i < PAGE_SIZE; i++)
            if (!page_of(memory, page) || page_of(memory, page)[i]) return false;
    return true;
}

static void test_cleaning(void) {
    check(call(HC_DOMAIN_CREATE, OTHER, ROLE_DRIVER, 60, 16) == STATUS_OK, "a domain");
    struct vcpu *control = entered;
    u64 *r = control->gpr, rip = guest_rip(control);
    r[0] = HC_MEM_CREATE, r[7] = MEMORY, r[6] = 1000, r[2] = r[10] = 0;
    leave(REASON_VMCALL);
    struct memory *memory = memory_of(control_domain->caps[MEMORY].object);
    check(entered == control && guest_rip(entered) == rip && memory->clean > 0 &&
              memory->clean < 1000,
          "a large object is cleaned in steps, between which others can run");
    check(call(HC_MEM_MAP, OTHER, MEMORY, MIB, 0, 1, 1) == STATUS_BAD_STATE,
          "before that it cannot be mapped");
    check(call(HC_MEM_CREATE, MEMORY, 999) == STATUS_IN_USE, "nor its creation go on otherwise");
    check(call(HC_CAP_GRANT, OTHER, 5, MEMORY, RIGHT_ALL) == STATUS_OK, "a copy of it");
    check(call(HC_CAP_DROP, MEMORY) == STATUS_OK && domain_in(OTHER)->caps_used == 1,
          "it can be dropped half way, its copies with it");
    sound("sound after that");
    check(call(HC_MEM_CREATE, MEMORY, 9000) == STATUS_OK, "most of what there is");
    for (u64 page = 0; page < 9000; page++)
        memset(page_of(memory_of(control_domain->caps[MEMORY].object), page), 0xa5, PAGE_SIZE);
    (void)call(HC_CAP_DROP, MEMORY);
    check(call(HC_MEM_CREATE, MEMORY, 777) == STATUS_OK, "an object of an odd size");
    memory = memory_of(control_domain->caps[MEMORY].object);
    check(memory->clean == 777 && memory->map.mapped == 777 && is_zero(memory, 0, 777),
          "all of it is zero");
    (void)call(HC_DOMAIN_DESTROY, OTHER);
    (void)call(HC_CAP_DROP, MEMORY);
}

/* Quotas from the least on: each create call fails without a trace until the quota is enough. */
static void test_quota(void) {
    check(call(HC_MEM_CREATE, MEMORY, 600) == STATUS_OK, "memory to map");
    bool leaks = false, half = false;
    unsigned made = 0, refused = 0;
    for (u32 quota = 8; quota < 40; quota++) {
        u64 before = frame_free_count();
        u32 status = call(HC_DOMAIN_CREATE, MODEL, ROLE_DEVICE_MODEL, quota, 16);
        if (status == STATUS_OK) {
            status = call(HC_DOMAIN_CREATE, VM, ROLE_VM, quota, 16);
            if (status == STATUS_OK) {
                u32 vm_pages = domain_in(VM)->kernel_pages;
                status = call(HC_VCPU_CREATE, VM_VCPU, VM, 0, MODEL);
                half |= status != STATUS_OK && (domain_in(VM)->vcpus[0] || domain_in(VM)->model ||
                                                domain_in(VM)->kernel_pages != vm_pages);
                refused += status == STATUS_NO_QUOTA;
                /* Mapped across two tables of 4 KiB pages and in far-away places. */
                for (u64 at = 1; at < 6; at++) {
                    u32 map = call(HC_MEM_MAP, VM, MEMORY, (at << 39) + 0x1fe000, 0, 599, 1);
                    refused += map == STATUS_NO_QUOTA;
                    made += map == STATUS_OK;
                    half |= map != STATUS_OK && map != STATUS_NO_QUOTA;
                    half |= map != STATUS_OK &&
                            !ept_is_free(&domain_in(VM)->ept, gpa((at << 39) + 0x1fe000), 599);
                }
                if (kernel_wrong(fixed)) half = true;
                (void)call(HC_DOMAIN_DESTROY, VM);
            }
            (void)call(HC_DOMAIN_DESTROY, MODEL);
        }
        leaks |= frame_free_count() != before;
    }
    check(!half, "no call leaves half an object when a quota is used up");
    check(!leaks, "and none of its frames");
    check(made > 20 && refused > 20, "some calls succeeded, others were refused");
    (void)call(HC_CAP_DROP, MEMORY);
    sound("sound after the quotas");
}

static void test_exit_page_place(void) {
    check(call(HC_MEM_CREATE, MEMORY, 1024) == STATUS_OK, "memory for large pages");
    (void)call(HC_DOMAIN_CREATE, MODEL, ROLE_DEVICE_MODEL, 100, 64);
    (void)call(HC_DOMAIN_CREATE, VM, ROLE_VM, 100, 16);
    check(call(HC_MEM_MAP, MODEL, MEMORY, GPA_EXIT, 0, 512, RIGHTS_RW) == STATUS_OK,
          "it lies where the exit pages of the device model would");
    check(call(HC_VCPU_CREATE, VM_VCPU, VM, 0, MODEL) == STATUS_IN_USE,
          "a vCPU is refused whose exit page would lie in other memory");
    pair_destroy();
}

/* Waits for an exit of the VM, and answers it. */
/* A MOV to CR4; false: it raises #GP. */
static bool mov_cr4(struct vcpu *vcpu, u64 value) {
    while (entered != vcpu)
        (void)call(HC_WAIT);
    u64 rip = guest_rip(vcpu);
    next_cr4_write();
    vcpu->gpr[3] = value;
    leave(REASON_CR_ACCESS);
    bool ok = guest_rip(vcpu) != rip;
    check(ok || EVENT_VECTOR(entered_event) == VECTOR_GP, "what is not done raises #GP");
    return ok;
}

static u64 cr4_of(struct vcpu *vcpu) {
    struct vcpu_state state;
    guest_state_read(vcpu, &state);
    return state.cr4;
}

static void test_cr4(void) {
    pair_create();
    (void)call(HC_VCPU_START, VCPU);
    (void)call(HC_VCPU_START, VM_VCPU);
    struct vcpu *vcpu = vcpu_in(VM_VCPU);
    check(mov_cr4(vcpu, CR4_PAE | CR4_MCE) && cr4_of(vcpu) == (CR4_PAE | CR4_MCE),
          "CR4 is written");
    static const unsigned refused[] = {12, 13, 14, 22, 23, 24, 31};
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
        check(!mov_cr4(vcpu, CR4_PAE | 1ull << refused[i]), "not with a bit that no VM has");
    check(!mov_cr4(vcpu, CR4_PAE | CR4_PCIDE), "nor PCIDE outside of long mode");
    check(cr4_of(vcpu) == (CR4_PAE | CR4_MCE), "and then it stays");
    check(mov_cr4(vcpu, CR4_PAE) && cr4_of(vcpu) == CR4_PAE && (guest_cr4(vcpu) & CR4_MCE),
          "a VM sees CR4.MCE clear, the CPU does not");
    pair_destroy();
}

static void test_pause_and_answer(void) {
    pair_create();
    struct domain *model = domain_in(MODEL), *vm = domain_in(VM);
    (void)call(HC_VCPU_START, VCPU);
    (void)call(HC_VCPU_START, VM_VCPU);
    struct vcpu *vcpu = vcpu_in(VM_VCPU);
    while (entered != vcpu)
        (void)call(HC_WAIT);
    check(vcpu->tsc_offset + host_tsc < 1000, "a VM's time begins with its start");
    next_out8(0x80);
    leave(REASON_IO);
    check(vcpu->state == VCPU_EXITED && entered->domain == model, "OUT goes to the device model");
    to_control();
    (void)call(HC_DOMAIN_PAUSE, VM);
    check(vm->state == DOMAIN_PAUSED, "the VM is paused while its exit is open");
    control_domain->events = 0;
    vcpu->exit->reply = REPLY_ADVANCE;
    check(vcpu_answer(vcpu) && !vcpu_answer(vcpu), "it is answered once");
    to_control();
    u64 guest_time = host_tsc + vcpu->tsc_offset;
    host_tsc += 12345;
    (void)call(HC_DOMAIN_RESUME, VM);
    u64 later = host_tsc + vcpu->tsc_offset;
    check(later >= guest_time && later < guest_time + 500, "its time stood still");
    while (entered != vcpu)
        (void)call(HC_WAIT);
    check(guest_rip(entered) == 3, "and it goes on behind the OUT");
    /* The device model stops: the next exit waits, and the VM does not run on. */
    to_control();
    (void)call(HC_VCPU_STOP, VCPU);
    control_domain->events = 0;
    while (entered != vcpu)
        (void)call(HC_WAIT);
    domain_signal(control_domain, 1ull << 40);
    leave(REASON_IO);
    check(vcpu->state == VCPU_EXITED && entered->domain == control_domain,
          "a VM does not run on while its device model is stopped");
    (void)call(HC_DOMAIN_DESTROY, MODEL);
    check(vm->state == DOMAIN_FAILED && vm->failure == FAILURE_ORPHAN,
          "a VM whose device model is destroyed has failed");
    (void)call(HC_DOMAIN_CREATE, MODEL, ROLE_DEVICE_MODEL, 100, 64);
    check(call(HC_VCPU_CREATE, EMPTY, VM, 1, MODEL) == STATUS_BAD_ARGUMENT,
          "another device model is not for it");
    pair_destroy();
}

/* Two that come while a vCPU does not run are two, three are two; while one is served, one waits.
 */
static void test_nmis(void) {
    pair_create();
    (void)call(HC_VCPU_START, VCPU);
    (void)call(HC_VCPU_START, VM_VCPU);
    struct vcpu *vcpu = vcpu_in(VM_VCPU);
    for (unsigned i = 0; i < 3; i++)
        (void)call(HC_VCPU_INTERRUPT, VM_VCPU, INTERRUPT_NMI);
    while (entered != vcpu)
        (void)call(HC_WAIT);
    check((entered_event & 0x7ff) == (EVENT_TYPE_NMI | VECTOR_NMI) && vcpu->nmi == 1,
          "the second NMI waits");
    to_control();
    for (unsigned i = 0; i < 3; i++)
        (void)call(HC_VCPU_INTERRUPT, VM_VCPU, INTERRUPT_NMI);
    while (entered != vcpu)
        (void)call(HC_WAIT);
    check(vcpu->nmi == 1, "one NMI waits while one is served");
    pair_destroy();
}

static void test_channels(void) {
    (void)call(HC_DOMAIN_CREATE, OTHER, ROLE_DRIVER, 60, 16);
    (void)call(HC_CHANNEL_CREATE, CHANNEL, CHANNEL2);
    (void)call(HC_CAP_GRANT, OTHER, CAP_LINK, CHANNEL2, RIGHT_ALL);
    struct domain *other = domain_in(OTHER);
    channel_bind(&other->caps[CAP_LINK], other, 30);
    check(call(HC_CHANNEL_SIGNAL, CHANNEL) == STATUS_OK && other->events == 1ull << 30,
          "a signal sets the event of the other end");
    (void)call(HC_DOMAIN_DESTROY, OTHER);
    check(call(HC_CHANNEL_SIGNAL, CHANNEL) == STATUS_OK, "nobody hears when that end is gone");
    (void)call(HC_CHANNEL_BIND, CHANNEL2, 31);
    (void)call(HC_CHANNEL_SIGNAL, CHANNEL);
    check(control_domain->events >> 31 & 1, "an end can be bound again");
    control_domain->events = 0;
    check(call(HC_CAP_DROP, CHANNEL) == STATUS_OK && !control_domain->caps[CHANNEL2].object,
          "the channel goes with its first end");
    sound("sound after channels");
}

static void test_timers(void) {
    (void)call(HC_TIMER_CREATE, TIMER, 33);
    (void)call(HC_TIMER_SET, TIMER, 1);
    leave(REASON_PREEMPTION_TIMER);
    check(control_domain->events == 1ull << 33, "a deadline in the past fires once, at once");
    control_domain->events = 0;
    leave(REASON_PREEMPTION_TIMER);
    check(!control_domain->events, "and not again");
    u64 deadline = host_tsc + 100000;
    (void)call(HC_TIMER_SET, TIMER, deadline);
    (void)call(HC_WAIT);
    check(host_tsc >= deadline - TIMER_ADVANCE && entered->gpr[2] == 1ull << 33,
          "one in the future wakes WAIT");
    (void)call(HC_TIMER_SET, TIMER, 1);
    (void)call(HC_WAIT);
    check(entered->gpr[2] == 1ull << 33, "so does one right after power-on");
    (void)call(HC_TIMER_SET, TIMER, host_tsc + 100);
    (void)call(HC_CAP_DROP, TIMER);
    check(!host_cpu.timeouts, "a timer that goes takes its deadline along");
    bool virtual = virt_timer;
    virt_timer = false; /* the host's timer ends slices, as without a timer of VMX */
    host_tsc = host_cpu.slice_end;
    sched_deadline();
    check(host_cpu.slice_over && host_timer > host_tsc, "a slice that is over sets no timer again");
    virt_timer = virtual;
    leave(REASON_EXTERNAL_INTERRUPT);
    check(!host_cpu.slice_over && host_cpu.slice_end > host_tsc, "and the next one begins");
    sound("sound after timers");
}

static void test_times(void) {
    u64 ran = sched_run_time(entered), idled = sched_idle_time();
    host_tsc += 1000000;
    check(sched_run_time(entered) - ran > 1000000, "what runs has run up to now");
    check(sched_idle_time() == idled, "and its CPU was not idle");
    check(call(HC_HOST_INFO) == STATUS_OK &&
              ((struct host_info *)control_domain->comm)->control_time >= ran + 1000000,
          "the host's figures have the control domain's time");
    struct vcpu *vcpu = entered;
    atomic_set(&host_cpu.current, NULL);
    idle_cpus |= 1;
    ran = sched_run_time(vcpu), idled = sched_idle_time();
    host_tsc += 1000000;
    check(sched_run_time(vcpu) == ran && sched_idle_time() - idled > 1000000,
          "an idle CPU has idled up to now");
    idle_cpus &= ~1ull;
    atomic_set(&host_cpu.current, vcpu);
}

static void test_restart(void) {
    struct domain *control = control_domain;
    u32 restarts = control->info->restarts;
    memcpy(control->comm, "50%s\n\x1b[2J", 9);
    check(call(HC_LOG, 9) == STATUS_OK && strstr(last_line, "50%s") && !strchr(last_line, 0x1b),
          "what a component logs is text and no format");
    memcpy(control->comm, "over", 4);
    (void)call(HC_TRAP, 4);
    check(control->info->restarts == restarts + 1 && entered->domain == control &&
              guest_rip(entered) == GPA_IMAGE,
          "the control domain is started again after a trap");
    for (unsigned i = 0; i < RESTART_LIMIT - 1; i++)
        (void)call(HC_TRAP, 4);
    check(control->info->restarts == restarts + RESTART_LIMIT, "up to its limit");
    sound("sound after restarts");
    idle_ends_test = true;
    (void)call(HC_TRAP, 4);
    check(!entered && control->state == DOMAIN_FAILED, "then it stays down");
}

/* The image that control runs from: as its mapping says. */
static const struct memory *image_mapped(void) {
    return mapping_at(control_domain, gpa(GPA_IMAGE))->memory;
}

/* Gives the kernel a new image; the memory that it was, which nobody may name any more. */
static const struct memory *upgrade(void) {
    (void)call(HC_MEM_CREATE, MEMORY, 5);
    const struct memory *image = memory_of(control_domain->caps[MEMORY].object);
    (void)call(HC_UPGRADE, MEMORY);
    check(image_mapped() == image && !control_domain->caps[MEMORY].object &&
              control_domain->info->image_size == 5 * PAGE_SIZE &&
              control_domain->info->last_failure == FAILURE_REPLACED,
          "an upgrade enters the new image, whose capability is gone");
    sound("sound on trial");
    return image;
}

static void trap_control(void) {
    host_tsc += 2 * tsc_hz; /* not too often */
    (void)call(HC_TRAP, 0);
}

static void test_upgrade(void) {
    const struct memory *booted = image_mapped();
    struct info *info = control_domain->info;
    u64 free_before = frame_free_count();
    (void)call(HC_MEM_CREATE, MEMORY, (IMAGE_MAX >> PAGE_SHIFT) + 1);
    check(call(HC_UPGRADE, MEMORY) == STATUS_BAD_ARGUMENT, "an image may not be too large");
    (void)call(HC_CAP_DROP, MEMORY);
    (void)call(HC_DOMAIN_CREATE, OTHER, ROLE_DRIVER, 60, 16);
    (void)call(HC_MEM_CREATE, MEMORY, 5, OTHER);
    check(call(HC_UPGRADE, MEMORY) == STATUS_BAD_STATE, "nor be another domain's memory");
    (void)call(HC_DOMAIN_DESTROY, OTHER);

    check(call(HC_MEM_UNMAP, CAP_SELF, GPA_IMAGE, booted->pages) == STATUS_BAD_ARGUMENT &&
              call(HC_CAP_DROP, CAP_MODULE) == STATUS_OK && image_mapped() == booted,
          "control cannot lose the image that it was booted with");

    (void)upgrade();
    check(info->trial && !info->rolled_back, "it is on trial");
    (void)call(HC_MEM_CREATE, MEMORY, 5);
    check(call(HC_UPGRADE, MEMORY) == STATUS_BAD_STATE, "nothing can replace it meanwhile");
    (void)call(HC_CAP_DROP, MEMORY);
    trap_control();
    check(image_mapped() == booted && info->rolled_back && !info->trial &&
              info->last_failure == FAILURE_TRAP,
          "a trap on trial brings the image before back");
    check(frame_free_count() == free_before, "and all memory");
    trap_control();
    check(image_mapped() == booted && !info->rolled_back, "after which it is as at first");

    (void)upgrade();
    for (u64 end = host_tsc + 11 * tsc_hz; host_tsc < end && info->trial;)
        (void)call(HC_WAIT);
    check(image_mapped() == booted && info->rolled_back && info->last_failure == FAILURE_HANG,
          "so does a trial without a word");

    const struct memory *first = upgrade();
    check(call(HC_UPGRADE, 0) == STATUS_OK && !info->trial, "it says that it is up");
    check(call(HC_UPGRADE, 0) == STATUS_BAD_STATE, "once");
    trap_control();
    check(image_mapped() == first && !info->rolled_back, "and is started again after a trap");
    check(call(HC_MEM_UNMAP, CAP_SELF, GPA_IMAGE, 5) == STATUS_BAD_ARGUMENT, "it stays mapped");

    (void)call(HC_MEM_CREATE, OTHER, 3);
    check(call(HC_MEM_MAP, CAP_SELF, OTHER, GPA_IMAGE + 5 * PAGE_SIZE, 0, 3, 1) == STATUS_OK,
          "something lies where a larger image would");
    (void)call(HC_MEM_CREATE, MEMORY, 7);
    (void)call(HC_UPGRADE, MEMORY);
    check(image_mapped() != first && info->image_size == 7 * PAGE_SIZE, "it gives way");
    trap_control();
    check(image_mapped() == first && info->rolled_back, "an image before is not the first one");
    (void)call(HC_CAP_DROP, OTHER);

    (void)call(HC_MEM_CREATE, MEMORY, 5);
    control_domain->kernel_quota = control_domain->kernel_pages; /* nothing is left of it */
    (void)call(HC_UPGRADE, MEMORY);
    check(image_mapped() != first, "an upgrade needs no kernel memory");
    trap_control();
    check(image_mapped() == first, "nor does the way back");
    control_domain->kernel_quota = CONTROL_KERNEL_PAGES;

    for (unsigned i = 0; i <= RESTART_LIMIT; i++)
        (void)call(HC_TRAP, 0);
    check(image_mapped() == booted && info->rolled_back, "the first one is the last resort");
    check(frame_free_count() == free_before, "no frame is lost");
    host_tsc += 20 * tsc_hz;
    sound("sound after upgrades");
}

int main(void) {
    machine_start();
    check(entered && entered->domain == control_domain, "the control domain is entered");
    fixed = fixed_frames();
    sound("sound at the start");
    (void)call(HC_CHANNEL_CREATE, CHANNEL, CHANNEL2); /* its account has a page of cells */
    (void)call(HC_CAP_DROP, CHANNEL);
    free_at_start = frame_free_count();
    test_bad_arguments();
    test_no_rights();
    test_maps_into_vm();
    test_firmware();
    test_lists();
    test_brakes();
    test_cleaning();
    test_quota();
    test_exit_page_place();
    test_cr4();
    test_pause_and_answer();
    test_nmis();
    test_channels();
    test_timers();
    test_times();
    check(frame_free_count() == free_at_start, "every frame has come back");
    test_upgrade();
    test_restart();
    return unit_result();
}
