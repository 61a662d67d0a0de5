/* Domains: the only container. Second-level page tables, vCPUs, capabilities, a memory account. */
#pragma once

#include "abi.h"
#include "capability.h"
#include "ept.h"
#include "log.h"

struct cell_page;
struct cpuid_table;
struct mapping;
struct vcpu;

struct doorbell {
    u64 value; /* that must be written, or DOORBELL_ANY */
    u16 port;
    u8 event; /* bit of the device model; 0: unused */
};

struct domain {
    struct object object;
    struct domain *next; /* all domains */
    u32 id;
    u32 role;    /* ROLE_... */
    u32 tenant;  /* 0: the host */
    u32 state;   /* DOMAIN_... */
    u32 failure; /* FAILURE_... */
    u64 failure_detail;
    char label[LABEL_SIZE];

    struct cap *caps;
    u32 cap_slots, caps_used;

    u32 kernel_pages, kernel_quota; /* the account: kernel memory; tables that are shared, too */
    struct cell_page *cell_pages;
    void *free_cells;

    struct ept ept;
    struct mapping *mappings;
    struct vcpu *vcpus[MAX_VCPUS];
    u32 vcpu_count;

    /* Components. */
    struct info *info;
    void *comm;
    u64 events; /* pending, not yet taken by HC_WAIT */
    struct log_limit log;
    u64 calls_since; /* TSC; since then it has made this many that take the kernel lock alone */
    u32 calls;
    u64 throttled; /* calls that had to wait, since they were too many */

    /* VMs, and device models: each other. */
    struct domain *model;
    struct domain *vm;

    struct cpuid_table *cpuid;
    u8 *io_bitmap;  /* its own copy once a port is granted; else the shared one that denies all */
    u64 paused_at;  /* TSC */
    u64 model_time; /* VM: TSC ticks of its device model that it has not paid for yet */
    u64 tsc_offset; /* its TSC less the host's; VM: of its vCPUs when they start, 0: none has */
    struct doorbell doorbells[MAX_DOORBELLS];
};

static inline struct domain *domain_of(struct object *object) { return (struct domain *)object; }

static inline bool domain_is_vm(const struct domain *domain) { return domain->role == ROLE_VM; }

extern struct domain *domains;
extern struct domain *control_domain;
extern u64 kernel_pages_reserved; /* quotas of all accounts, less what is in use */
extern u64 pages_promised;        /* frames that are kept for memory objects */

/* Whether so many frames and kernel pages can be had beside what was promised. */
MUST_USE bool room_for(u64 pages, u64 kernel_pages);

/* A new domain with an empty table, its kernel memory charged to itself; a status. */
MUST_USE u32 domain_create(u32 role, u32 tenant, const char label[LABEL_SIZE], u32 kernel_quota,
                           u32 cap_slots, struct domain **out);
void domain_destroy(struct domain *domain);

/* 2^order zeroed kernel pages on the domain's account; NULL: no quota, or no memory. */
MUST_USE void *domain_pages(struct domain *domain, unsigned order);
void domain_pages_free(struct domain *domain, void *pages, unsigned order);

/* Second-level tables, empty, on the domain's account; false: no page for the root. */
MUST_USE bool domain_tables(struct domain *domain, struct ept *ept, unsigned levels);

/* A zeroed cell of CELL_SIZE bytes on the domain's account, for its small objects. */
#define CELL_SIZE 128
MUST_USE void *cell_alloc(struct domain *domain);
void cell_free(struct domain *domain, void *cell);

/* Its time stands still until it is resumed, and with_model: its device model's with it. False:
   there is nothing to pause, or one of them has failed. */
bool domain_pause(struct domain *domain, bool with_model);
/* Its device model too, if that is paused; false: it is not paused. */
bool domain_resume(struct domain *domain);

/* The end of a domain by its own doing: it stops, the log says why, the control domain hears of it;
   its frames stay until DOMAIN_DESTROY. The control domain itself is started again. */
void domain_fail(struct domain *domain, u32 failure, u64 detail);

/* There is no frame for a page that it touched: its VM is paused, and if it is the device model, so
   is that, until both are resumed; the control domain hears of it. */
void domain_starve(struct domain *domain);

/* Sets event bits of a component, and wakes it. */
void domain_signal(struct domain *domain, u64 events);

/* Fills a component's info page; its image and RAM are mapped. */
void component_info(struct domain *domain);
/* Puts a component's vCPU before its first instruction. */
void component_reset(struct domain *domain);
