/* The VMCS: its fields, typed by width, and checked access. Intel SDM volume 3, appendix "Field
   Encoding in VMCS". A field is a structure, so that writing an encoding where a value was meant
   does not compile. */
#pragma once

#include "abi.h"
#include "regs.h"
#include "types.h"
#include "x86.h"

struct vmcs16 {
    u32 encoding;
};
struct vmcs32 {
    u32 encoding;
};
struct vmcs64 { /* 64-bit and natural-width fields */
    u32 encoding;
};

#define FIELD16(n) ((struct vmcs16){n})
#define FIELD32(n) ((struct vmcs32){n})
#define FIELD64(n) ((struct vmcs64){n})

/* 16-bit */
#define VMCS_VPID              FIELD16(0x0000)           /* VPID                      */
#define VMCS_GUEST_SELECTOR(s) FIELD16(0x0800 + 2 * (s)) /* ES CS SS DS FS GS LDTR TR */
#define VMCS_NOTIFICATION      FIELD16(0x0002)           /* posted interrupts: their vector */
#define VMCS_INTERRUPT_STATUS  FIELD16(0x0810)           /* virtual interrupts: RVI, SVI << 8 */
#define VMCS_HOST_ES_SELECTOR  FIELD16(0x0c00)
#define VMCS_HOST_CS_SELECTOR  FIELD16(0x0c02)
#define VMCS_HOST_SS_SELECTOR  FIELD16(0x0c04)
#define VMCS_HOST_DS_SELECTOR  FIELD16(0x0c06)
#define VMCS_HOST_FS_SELECTOR  FIELD16(0x0c08)
#define VMCS_HOST_GS_SELECTOR  FIELD16(0x0c0a)
#define VMCS_HOST_TR_SELECTOR  FIELD16(0x0c0c)

/* 64-bit */
#define VMCS_IO_BITMAP_A    FIELD64(0x2000)
#define VMCS_IO_BITMAP_B    FIELD64(0x2002)
#define VMCS_MSR_BITMAP     FIELD64(0x2004)
#define VMCS_TSC_OFFSET     FIELD64(0x2010)
#define VMCS_VIRTUAL_APIC   FIELD64(0x2012)           /* TPR shadow                */
#define VMCS_EPT_POINTER    FIELD64(0x201a)           /* EPT                       */
#define VMCS_POSTED         FIELD64(0x2016)           /* posted interrupts         */
#define VMCS_EOI_EXIT(n)    FIELD64(0x201c + 2 * (n)) /* virtual interrupts        */
#define VMCS_GUEST_PHYSICAL FIELD64(0x2400)           /* EPT                       */
#define VMCS_LINK_POINTER   FIELD64(0x2800)
#define VMCS_GUEST_DEBUGCTL FIELD64(0x2802)
#define VMCS_GUEST_PAT      FIELD64(0x2804)
#define VMCS_GUEST_EFER     FIELD64(0x2806)
#define VMCS_GUEST_PDPTE(n) FIELD64(0x280a + 2 * (n)) /* EPT                       */
#define VMCS_HOST_PAT       FIELD64(0x2c00)
#define VMCS_HOST_EFER      FIELD64(0x2c02)

/* 32-bit control */
#define VMCS_PIN_CONTROLS         FIELD32(0x4000)
#define VMCS_PRIMARY_CONTROLS     FIELD32(0x4002)
#define VMCS_EXCEPTION_BITMAP     FIELD32(0x4004)
#define VMCS_PF_MASK              FIELD32(0x4006)
#define VMCS_PF_MATCH             FIELD32(0x4008)
#define VMCS_CR3_TARGET_COUNT     FIELD32(0x400a)
#define VMCS_EXIT_CONTROLS        FIELD32(0x400c)
#define VMCS_EXIT_MSR_STORE_COUNT FIELD32(0x400e)
#define VMCS_EXIT_MSR_LOAD_COUNT  FIELD32(0x4010)
#define VMCS_ENTRY_CONTROLS       FIELD32(0x4012)
#define VMCS_ENTRY_MSR_LOAD_COUNT FIELD32(0x4014)
#define VMCS_ENTRY_EVENT          FIELD32(0x4016)
#define VMCS_ENTRY_ERROR_CODE     FIELD32(0x4018)
#define VMCS_ENTRY_LENGTH         FIELD32(0x401a)
#define VMCS_PLE_GAP              FIELD32(0x4020) /* PAUSE-loop exiting */
#define VMCS_PLE_WINDOW           FIELD32(0x4022) /* PAUSE-loop exiting */
#define VMCS_TPR_THRESHOLD        FIELD32(0x401c) /* TPR shadow         */
#define VMCS_SECONDARY_CONTROLS   FIELD32(0x401e)

/* 32-bit read-only */
#define VMCS_INSTRUCTION_ERROR    FIELD32(0x4400)
#define VMCS_EXIT_REASON          FIELD32(0x4402)
#define VMCS_EXIT_EVENT           FIELD32(0x4404)
#define VMCS_EXIT_ERROR_CODE      FIELD32(0x4406)
#define VMCS_VECTORING_EVENT      FIELD32(0x4408)
#define VMCS_VECTORING_ERROR_CODE FIELD32(0x440a)
#define VMCS_EXIT_LENGTH          FIELD32(0x440c)

/* 32-bit guest state */
#define VMCS_GUEST_LIMIT(s)    FIELD32(0x4800 + 2 * (s)) /* the eight segments, then GDTR, IDTR */
#define VMCS_GUEST_ACCESS(s)   FIELD32(0x4814 + 2 * (s)) /* the eight segments        */
#define VMCS_GUEST_BLOCKING    FIELD32(0x4824)           /* interruptibility state    */
#define VMCS_GUEST_ACTIVITY    FIELD32(0x4826)
#define VMCS_GUEST_SYSENTER_CS FIELD32(0x482a)
#define VMCS_PREEMPTION_TIMER  FIELD32(0x482e) /* preemption timer          */
#define VMCS_HOST_SYSENTER_CS  FIELD32(0x4c00)

/* natural width */
#define VMCS_CR0_MASK            FIELD64(0x6000)
#define VMCS_CR4_MASK            FIELD64(0x6002)
#define VMCS_CR0_SHADOW          FIELD64(0x6004)
#define VMCS_CR4_SHADOW          FIELD64(0x6006)
#define VMCS_EXIT_QUALIFICATION  FIELD64(0x6400)
#define VMCS_GUEST_LINEAR        FIELD64(0x640a)
#define VMCS_GUEST_CR0           FIELD64(0x6800)
#define VMCS_GUEST_CR3           FIELD64(0x6802)
#define VMCS_GUEST_CR4           FIELD64(0x6804)
#define VMCS_GUEST_BASE(s)       FIELD64(0x6806 + 2 * (s)) /* the eight segments, then GDTR, IDTR */
#define VMCS_GUEST_DR7           FIELD64(0x681a)
#define VMCS_GUEST_RSP           FIELD64(0x681c)
#define VMCS_GUEST_RIP           FIELD64(0x681e)
#define VMCS_GUEST_RFLAGS        FIELD64(0x6820)
#define VMCS_GUEST_PENDING_DEBUG FIELD64(0x6822)
#define VMCS_GUEST_SYSENTER_ESP  FIELD64(0x6824)
#define VMCS_GUEST_SYSENTER_EIP  FIELD64(0x6826)
#define VMCS_HOST_CR0            FIELD64(0x6c00)
#define VMCS_HOST_CR3            FIELD64(0x6c02)
#define VMCS_HOST_CR4            FIELD64(0x6c04)
#define VMCS_HOST_FS_BASE        FIELD64(0x6c06)
#define VMCS_HOST_GS_BASE        FIELD64(0x6c08)
#define VMCS_HOST_TR_BASE        FIELD64(0x6c0a)
#define VMCS_HOST_GDTR_BASE      FIELD64(0x6c0c)
#define VMCS_HOST_IDTR_BASE      FIELD64(0x6c0e)
#define VMCS_HOST_SYSENTER_ESP   FIELD64(0x6c10)
#define VMCS_HOST_SYSENTER_EIP   FIELD64(0x6c12)
#define VMCS_HOST_RSP            FIELD64(0x6c14)
#define VMCS_HOST_RIP            FIELD64(0x6c16)

/* Pin-based controls */
#define PIN_EXTERNAL_INTERRUPT (1u << 0)
#define PIN_NMI                (1u << 3)
#define PIN_VIRTUAL_NMI        (1u << 5)
#define PIN_PREEMPTION_TIMER   (1u << 6)
#define PIN_POSTED             (1u << 7)

/* Primary processor-based controls */
#define PRIMARY_INTERRUPT_WINDOW (1u << 2)
#define PRIMARY_TSC_OFFSET       (1u << 3)
#define PRIMARY_HLT              (1u << 7)
#define PRIMARY_MWAIT            (1u << 10)
#define PRIMARY_RDPMC            (1u << 11)
#define PRIMARY_CR8_LOAD         (1u << 19)
#define PRIMARY_CR8_STORE        (1u << 20)
#define PRIMARY_TPR_SHADOW       (1u << 21)
#define PRIMARY_NMI_WINDOW       (1u << 22)
#define PRIMARY_IO_BITMAPS       (1u << 25)
#define PRIMARY_MSR_BITMAPS      (1u << 28)
#define PRIMARY_MONITOR          (1u << 29)
#define PRIMARY_SECONDARY        (1u << 31)

/* Secondary processor-based controls */
#define SECONDARY_EPT                (1u << 1)
#define SECONDARY_RDTSCP             (1u << 3)
#define SECONDARY_X2APIC             (1u << 4)
#define SECONDARY_VPID               (1u << 5)
#define SECONDARY_WBINVD             (1u << 6)
#define SECONDARY_UNRESTRICTED       (1u << 7)
#define SECONDARY_APIC_REGISTERS     (1u << 8)
#define SECONDARY_VIRTUAL_INTERRUPTS (1u << 9)
#define SECONDARY_PAUSE_LOOP         (1u << 10)
#define SECONDARY_INVPCID            (1u << 12)
#define SECONDARY_PML                (1u << 17)
#define SECONDARY_TSC_SCALING        (1u << 25)

/* Exit and entry controls */
#define EXIT_SAVE_DEBUG    (1u << 2)
#define EXIT_HOST_64       (1u << 9)
#define EXIT_ACK_INTERRUPT (1u << 15)
#define EXIT_SAVE_PAT      (1u << 18)
#define EXIT_LOAD_PAT      (1u << 19)
#define EXIT_SAVE_EFER     (1u << 20)
#define EXIT_LOAD_EFER     (1u << 21)
#define ENTRY_LOAD_DEBUG   (1u << 2)
#define ENTRY_IA32E        (1u << 9)
#define ENTRY_LOAD_PAT     (1u << 14)
#define ENTRY_LOAD_EFER    (1u << 15)

/* EPT pointer */
#define EPTP_WRITE_BACK 6ull
#define EPTP_WALK_4     (3ull << 3)

#define PENDING_DEBUG_BS (1ull << 14)
#define ACCESS_LONG      0x2000u /* segment access rights: 64-bit code */

NORETURN COLD void vmcs_failed(u32 encoding);

static ALWAYS_INLINE u64 vmread_raw(u32 encoding) {
    u64 value;
    if (unlikely(!vmread(encoding, &value))) vmcs_failed(encoding);
    return value;
}

static ALWAYS_INLINE void vmwrite_raw(u32 encoding, u64 value) {
    if (unlikely(!vmwrite(encoding, value))) vmcs_failed(encoding);
}

static ALWAYS_INLINE u16 vmread16(struct vmcs16 field) { return (u16)vmread_raw(field.encoding); }
static ALWAYS_INLINE u32 vmread32(struct vmcs32 field) { return (u32)vmread_raw(field.encoding); }
static ALWAYS_INLINE u64 vmread64(struct vmcs64 field) { return vmread_raw(field.encoding); }
static ALWAYS_INLINE void vmwrite16(struct vmcs16 field, u16 value) {
    vmwrite_raw(field.encoding, value);
}
static ALWAYS_INLINE void vmwrite32(struct vmcs32 field, u32 value) {
    vmwrite_raw(field.encoding, value);
}
static ALWAYS_INLINE void vmwrite64(struct vmcs64 field, u64 value) {
    vmwrite_raw(field.encoding, value);
}
