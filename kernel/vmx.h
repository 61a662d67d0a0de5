/* The VT-x backend: what the rest of the kernel asks of it. */
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

/* Chooses the controls, says in the log what is missing, and turns VMX on. Stops the machine with
   one line when it cannot do. */
void vmx_cpu_init(void);
u32 vmx_features(void); /* FEATURE_... bits */

MUST_USE bool vmx_vcpu_init(struct vcpu *vcpu); /* false: no VPID is free, or no memory */
void vmx_vcpu_destroy(struct vcpu *vcpu);
void vmx_load(struct vcpu *vcpu); /* makes its VMCS the current one */

/* The integer state of a vCPU. What a guest must not have (CR4.VMXE, ...) is kept from hardware. */
void vmx_state_write(struct vcpu *vcpu, const struct vcpu_state *state);
void vmx_state_read(struct vcpu *vcpu, struct vcpu_state *state);
void vmx_io_bitmap_set(struct domain *domain);
void vmx_tsc_offset_write(struct vcpu *vcpu);

/* Control registers as the guest sees them; false: #GP. */
MUST_USE bool vmx_cr0_write(struct vcpu *vcpu, u64 value);
MUST_USE bool vmx_cr4_write(struct vcpu *vcpu, u64 value);
MUST_USE bool vmx_efer_write(u64 value);

void vmx_flush_ept(const struct ept *ept);

/* The VMX preemption timer counts TSC ticks >> shift. */
struct vmx_timer {
    bool present;
    u8 shift;
};
extern struct vmx_timer vmx_timer;

/* Loads the general registers and enters; does not return: the next exit calls exit_handle, on an
   empty stack. (Not declared so: these calls are the last of their callers, and become jumps.) */
void vmx_enter(struct vcpu *vcpu);
void exit_handle(struct vcpu *vcpu);
NORETURN void vmx_entry_failed(struct vcpu *vcpu, u64 flags);
void vmx_exited(void);
void vmx_dump(struct vcpu *vcpu);

/* What the CPU leaves to us when it goes from one VM to another. */
void unswitched_load(struct vcpu *vcpu);
void unswitched_save(struct vcpu *vcpu);
void unswitched_evict(struct vcpu *vcpu); /* saves it if it is in the CPU; nothing of it stays */
void xstate_init(void);
u32 xstate_size(u64 xcr0); /* bytes of an XSAVE area, SDM volume 1, "Determination of State" */
unsigned xstate_order(void);
bool xstate_allowed(u64 xcr0);
void unswitched_reset(struct vcpu *vcpu);
