/* Guests, as the CPU runs them: what the rest of the kernel asks of a backend, VT-x (vmx.c) or
   AMD-V (svm.c). An image is linked with one; what is on the way of an exit is inline in its
   header. */
#pragma once

#include "abi.h"
#include "ept.h"
#include "types.h"

struct vcpu;
struct domain;

/* Access rights of segments, in VMX format. */
#define SEGMENT_ACCESS_CODE      0xc09bu
#define SEGMENT_ACCESS_DATA      0xc093u
#define SEGMENT_ACCESS_TSS       0x008bu
#define SEGMENT_ACCESS_REAL_CODE 0x009bu
#define SEGMENT_ACCESS_REAL_DATA 0x0093u
#define SEGMENT_ACCESS_LDT       0x0082u
#define SEGMENT_ACCESS_UNUSABLE  0x10000u
#define SEGMENT_DPL(n)           ((u32)(n) << 5)

/* Events as both vendors write them, to be injected, as an exit's cause, or cut short by one: SDM
   volume 3, "VM-Entry Controls for Event Injection"; APM volume 2, "Event Injection". */
#define EVENT_VALID                   (1u << 31)
#define EVENT_HAS_ERROR               (1u << 11)
#define EVENT_NMI_UNBLOCKED           (1u << 12)
#define EVENT_TYPE(info)              ((info) >> 8 & 7)
#define EVENT_VECTOR(info)            ((info)&0xff)
#define EVENT_TYPE_INTERRUPT          (0u << 8)
#define EVENT_TYPE_NMI                (2u << 8)
#define EVENT_TYPE_EXCEPTION          (3u << 8)
#define EVENT_TYPE_SOFTWARE_INTERRUPT 4 /* as EVENT_TYPE() gives it; 5, 6: software exceptions */
#define EVENT_TYPE_INT1               5
#define EVENT_FIELDS                  (EVENT_VALID | EVENT_HAS_ERROR | 0x7ff)

#define BLOCKING_STI    (1u << 0)
#define BLOCKING_MOV_SS (1u << 1)
#define BLOCKING_NMI    (1u << 3)

/* Exit reasons, as VT-x numbers them: SDM volume 3, appendix "VMX Basic Exit Reasons". */
enum {
    REASON_EXCEPTION = 0,
    REASON_EXTERNAL_INTERRUPT = 1,
    REASON_TRIPLE_FAULT = 2,
    REASON_INIT = 3,
    REASON_SIPI = 4,
    REASON_INTERRUPT_WINDOW = 7,
    REASON_NMI_WINDOW = 8,
    REASON_CPUID = 10,
    REASON_HLT = 12,
    REASON_INVD = 13,
    REASON_RDPMC = 15,
    REASON_VMCALL = 18,
    REASON_VMCLEAR = 19, /* to VMXON, 27: the VMX instructions */
    REASON_VMXON = 27,
    REASON_CR_ACCESS = 28,
    REASON_IO = 30,
    REASON_RDMSR = 31,
    REASON_WRMSR = 32,
    REASON_INVALID_STATE = 33,
    REASON_MWAIT = 36,
    REASON_MONITOR = 39,
    REASON_PAUSE = 40,
    REASON_MACHINE_CHECK_ENTRY = 41,
    REASON_TPR = 43,
    REASON_EOI = 45,
    REASON_PAGE = 48, /* EPT violation, nested page fault */
    REASON_INVEPT = 50,
    REASON_PREEMPTION_TIMER = 52,
    REASON_INVVPID = 53,
    REASON_WBINVD = 54,
    REASON_XSETBV = 55,
    REASON_APIC_WRITE = 56,
    REASON_VMFUNC = 59,
};
#define REASON_ENTRY_FAILED (1u << 31)

/* What a guest may set; a component has no vector unit, and no SYSCALL. */
#define VM_CR4                                                                                     \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |      \
     CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP |  \
     CR4_SMAP)
#define COMPONENT_CR4 (CR4_PSE | CR4_PAE | CR4_PGE)
#define CR0_KNOWN                                                                                  \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)
#define EFER_KNOWN (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

/* Refuses a CPU that lacks what is needed. */
void virt_require(void);
/* Chooses the controls, says in the log what is missing, and turns it on. Stops the machine with
   one line when it cannot do. */
enum apicv { APICV_OFF, APICV_REGISTERS, APICV_ON };
void virt_init(enum apicv apicv); /* the most of APIC virtualization to use */
/* Turns it on on this CPU; false: it is not like the first one. */
MUST_USE bool virt_cpu_start(void);
u32 virt_features(void); /* FEATURE_... bits */

MUST_USE bool guest_init(struct vcpu *vcpu); /* false: no tag is free, or no memory */
void guest_destroy(struct vcpu *vcpu);
/* Each backend has inline guest_load(vcpu): what the accessors are for from now on; no other CPU
   has it (guest_unload there). */
/* Nothing of it stays in this CPU. */
void guest_unload(struct vcpu *vcpu);

/* The integer state of a vCPU. What a guest must not have (CR4.VMXE, ...) is kept from hardware. */
void guest_state_write(struct vcpu *vcpu, const struct vcpu_state *state);
void guest_state_read(struct vcpu *vcpu, struct vcpu_state *state);
/* What a saved vCPU has besides, of what the backend keeps; what is written is checked, behind
   guest_state_write. Its registers are in no CPU. */
void guest_snapshot_read(struct vcpu *vcpu, struct vcpu_snapshot *to);
void guest_snapshot_write(struct vcpu *vcpu, const struct vcpu_snapshot *from);
void guest_io_bitmap_set(struct domain *domain);
void guest_tsc_offset_write(struct vcpu *vcpu);

/* Virtualizes the local APIC as far as the CPU can in its present mode; whether it delivers the
   interrupts in the page itself. */
bool guest_apic_mode(struct vcpu *vcpu, bool x2apic, u16 interrupt_status);
extern bool virt_apic;
/* With posted interrupts the CPU takes edges from struct posted without an exit, when POSTED_VECTOR
 * comes. */
extern bool virt_posted;

/* As the guest sees it; false: #GP. */
MUST_USE bool guest_efer_write(struct vcpu *vcpu, u64 value);
/* Carries out the access to a control register that was the exit; false: #GP. */
MUST_USE bool guest_cr_access(struct vcpu *vcpu);
/* Whether CR4 may go from `old` to `value` in a guest that may set the bits `allowed`. */
bool cr4_valid(u64 value, u64 old, u64 allowed, u64 efer, u64 cr3);

void guest_flush(struct ept *ept); /* on all CPUs that may hold translations */

extern bool virt_timer; /* ends the run of a guest at a deadline; else the host's timer does */

/* Loads the general registers and enters; does not return: the next exit calls exit_handle, on an
   empty stack. (Not declared so: these calls are the last of their callers, and become jumps.) */
void guest_enter(struct vcpu *vcpu);
void exit_handle(struct vcpu *vcpu);
extern const char enter_start[], enter_end[], enter_again[]; /* NAME_entry.S, kernel.ld */

/* What the CPU leaves to us when it goes from one VM to another. */
void unswitched_load(struct vcpu *vcpu);
void unswitched_save(struct vcpu *vcpu);
void unswitched_evict(struct vcpu *vcpu); /* saves it if it is in the CPU; nothing of it stays */
void xstate_init(void);
void xstate_cpu_init(void);
u32 xstate_size(u64 xcr0); /* bytes of an XSAVE area, SDM volume 1, "Determination of State" */
u32 xstate_compacted_size(u64 xcr0); /* of one that XSAVEC writes, "Compacted Format" */
unsigned xstate_order(void);
bool xstate_allowed(u64 xcr0);
u32 xstate_area_size(void);
/* Bytes of the area from `offset` on; those of the first 4 KiB, with its header, end what is there.
   False: too few. */
MUST_USE bool xstate_load(struct vcpu *vcpu, u32 offset, const void *from, u64 length);
void unswitched_reset(struct vcpu *vcpu);

/* The exit of a guest at a page that its tables do not give it. */
struct page_exit {
    struct gpa address;
    u64 linear; /* 0: unknown */
    u32 access; /* RIGHT_ and ACCESS_ bits */
};
struct port_exit {
    u32 port, size;
    bool in, string, rep;
};

/* The inline part is for the vCPU whose exit this is, or that is loaded. */
#ifndef GUEST_H
#define GUEST_H "vmx_guest.h"
#endif
#include GUEST_H
