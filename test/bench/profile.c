/* Where the instructions go: linked into a kernel that only `make bench` boots, around the way into
   a guest and back (ld --wrap), for VT-x. It counts on one CPU what is spent inside VMs, device
   models and the control domain, in the kernel, and idle; what the counting takes is left out.
   It logs three lines: at the first entry of a VM what had been spent when the host was idle for
   the first time, with the shell's prompt on its way to the line, and what has been spent since the
   VM's device model was created; when a VM writes to PROFILE_PORT what has been spent since that
   entry, followed by the VM's exits which cost most. */
#include "cpu.h"
#include "domain.h"
#include "guest.h"
#include "log.h"
#include "serial.h"
#include "vcpu.h"
#include "x86.h"

#define PROFILE_PORT 0x5554
#define SITES        256
#define WORTH_NAMING 1000 /* sites that cost less than this part of the VM's time are left out */

/* Exits of VMs of one kind: their reason, and a port or a page of device memory. */
struct site {
    u64 key, exits, ticks;
};

static struct profile {
    u64 inside[ROLE_VM + 1]; /* by role */
    u64 kernel, idle;
    struct site sites[SITES];
} profile;

static u64 since, idle_before;
static u64 serial_waits, handed_over; /* of all that has passed, and without the waits */
static struct site *site;
static bool began;                /* the last VM that was created has run */
static const struct domain *made; /* that VM */

void __real_serial_put(char c);
void __real_guest_enter(struct vcpu *vcpu);
void __real_exit_handle(struct vcpu *vcpu);
u32 __real_domain_create(u32 role, u32 tenant, const char label[LABEL_SIZE], u32 kernel_quota,
                         u32 cap_slots, struct domain **out);
void __wrap_serial_put(char c);
void __wrap_guest_enter(struct vcpu *vcpu);
void __wrap_exit_handle(struct vcpu *vcpu);
u32 __wrap_domain_create(u32 role, u32 tenant, const char label[LABEL_SIZE], u32 kernel_quota,
                         u32 cap_slots, struct domain **out);

static struct site *find_site(struct vcpu *vcpu, u32 reason) {
    u64 key = (u64)reason << 52;
    if (reason == REASON_IO) key |= guest_port_exit(vcpu).port;
    if (reason == REASON_PAGE) key |= vmread64(VMCS_GUEST_PHYSICAL) >> 12;
    if (reason == REASON_WRMSR || reason == REASON_RDMSR) key |= (u32)vcpu->gpr[1];
    for (unsigned i = 0; i < SITES; i++) {
        if (profile.sites[i].exits && profile.sites[i].key != key) continue;
        profile.sites[i].key = key;
        return &profile.sites[i];
    }
    return NULL;
}

static void start_over(void) {
    __builtin_memset(&profile, 0, sizeof(profile));
    site = NULL;
}

static void tell(const char *what) {
    log_info("profile of %s: VM %lu model %lu control %lu kernel %lu idle %lu", what,
             profile.inside[ROLE_VM], profile.inside[ROLE_DEVICE_MODEL],
             profile.inside[ROLE_CONTROL], profile.kernel, profile.idle);
}

static void tell_sites(void) {
    for (unsigned i = 0; i < SITES && profile.sites[i].exits; i++) {
        const struct site *s = &profile.sites[i];
        if (s->ticks > profile.inside[ROLE_VM] / WORTH_NAMING)
            log_info("profile of exit %lu at %lx: exits %lu ticks %lu", s->key >> 52,
                     s->key << 12 >> 12, s->exits, s->ticks);
    }
}

void __wrap_exit_handle(struct vcpu *vcpu) {
    u64 now = rdtsc();
    profile.inside[vcpu->domain->role] += now - since;
    if (vcpu->domain->role == ROLE_VM) {
        u32 reason = (u32)guest_exit_reason(vcpu);
        if (reason == REASON_IO && guest_port_exit(vcpu).port == PROFILE_PORT) {
            tell("a boot");
            tell_sites();
        }
        site = find_site(vcpu, reason);
        if (site) site->exits++;
        if (site)
            site->ticks -=
                profile.inside[ROLE_DEVICE_MODEL] + profile.inside[ROLE_CONTROL] + profile.kernel;
    }
    since = rdtsc();
    __real_exit_handle(vcpu);
}

void __wrap_serial_put(char c) {
    u64 began = rdtsc();
    __real_serial_put(c);
    serial_waits += rdtsc() - began;
}

void __wrap_guest_enter(struct vcpu *vcpu) {
    u64 now = rdtsc(), idle = this_cpu()->idle_time - idle_before;
    profile.kernel += now - since - idle;
    profile.idle += idle;
    idle_before += idle;
    if (idle && !handed_over)
        handed_over = now - control_domain->info->boot_tsc - idle - serial_waits;
    if (vcpu->domain->role == ROLE_VM) {
        if (site)
            site->ticks +=
                profile.inside[ROLE_DEVICE_MODEL] + profile.inside[ROLE_CONTROL] + profile.kernel;
        site = NULL;
        if (!began && vcpu->domain == made) {
            began = true;
            log_info("profile of the start: %lu, and %lu for the serial line", handed_over,
                     serial_waits);
            tell("a creation");
            start_over();
        }
    }
    since = rdtsc();
    __real_guest_enter(vcpu);
}

u32 __wrap_domain_create(u32 role, u32 tenant, const char label[LABEL_SIZE], u32 kernel_quota,
                         u32 cap_slots, struct domain **out) {
    if (role == ROLE_DEVICE_MODEL) { /* the first step to a VM */
        began = false;
        start_over();
    }
    u32 status = __real_domain_create(role, tenant, label, kernel_quota, cap_slots, out);
    if (role == ROLE_VM && !began) made = *out;
    return status;
}
