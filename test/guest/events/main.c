/* Events that meet each other: faults in the delivery of events, single steps over instructions that exit,
   the shadow of STI, stacks that are not there. */
#include "guest.h"

const char title[] = "events";

#define VECTOR_IRQ   0x42
#define RFLAGS_TF    0x100ull
#define PAGE         4096ull

#define RFLAGS_RF    0x10000ull

static volatile u64 hits, steps, last_rip, last_error, last_rflags;

static void note(struct frame *frame) {
    hits++;
    last_rip = frame->rip;
    last_error = frame->error;
    last_rflags = frame->rflags;
    if (frame->vector >= 32)
        wrmsr(APIC_EOI, 0);
}

/* --- faults in delivery --- */

/* A double fault does not return to where it came from: its handler goes on at `resume`. */
static void note_and_resume(struct frame *frame) {
    hits++;
    last_error = frame->error;
    frame->rip = resume;
    resume = 0;
}

static void check_double_fault(void) {
    struct gate ud = idt[VECTOR_UD], np = idt[VECTOR_NP], gp = idt[VECTOR_GP];
    handlers[VECTOR_DF] = note_and_resume;
    /* #UD whose gate is not there: #NP comes instead, with the gate in its error code. */
    idt[VECTOR_UD].type &= 0x7f;
    CHECK_EQUAL(FAULT_OF("ud2", ), VECTOR_NP);
    if (cpu_has("right error code for a gate that is not there"))
        CHECK_EQUAL(fault.error, VECTOR_UD << 3 | 3);
    idt[VECTOR_NP].type &= 0x7f;
    hits = 0;
    CHECK_EQUAL(FAULT_OF("ud2", ), NO_FAULT);
    CHECK_EQUAL(hits, 1);
    CHECK_EQUAL(last_error, 0);
    idt[VECTOR_UD] = ud;
    idt[VECTOR_NP] = np;
    /* #GP raised by the kernel for an MSR, while #GP has no gate: again a double fault. */
    idt[VECTOR_GP].type &= 0x7f;
    idt[VECTOR_NP].type &= 0x7f;
    hits = 0;
    CHECK_EQUAL(FAULT_OF("rdmsr", ::"c"(0x12345678) : "eax", "edx"), NO_FAULT);
    CHECK_EQUAL(hits, 1);
    idt[VECTOR_NP] = np;
    idt[VECTOR_GP] = gp;
    handlers[VECTOR_DF] = NULL;
}

/* --- stacks --- */

/* The frame of an interrupt goes to a page that is not mapped: #PF, and the interrupt is not lost for
   the CPU's next try, if the handler of #PF maps the page. */
static u64 mapped_at;
static void map_stack(struct frame *frame) {
    hits++;
    last_error = frame->error;
    window(10, 0x110000 | PTE_PRESENT | PTE_WRITE);
    mapped_at = read_cr2();
}

static void check_unmapped_stack(void) {
    u64 top = WINDOW + 11 * PAGE;
    window(10, 0);
    u64 before = ist_stack(2, top);
    idt[VECTOR_IRQ].ist = 2;
    idt[VECTOR_PF].ist = 1;
    handlers[VECTOR_PF] = map_stack;
    handlers[VECTOR_IRQ] = note;
    hits = 0;
    /* A software interrupt is a restartable instruction: it runs again behind the fault. */
    __asm__ volatile("int $0x42" ::: "memory");
    CHECK_EQUAL(hits, 2);
    CHECK_EQUAL(last_error, 0);
    CHECK_EQUAL(mapped_at & ~(PAGE - 1), WINDOW + 10 * PAGE);
    /* So does an exception that the instruction raises again. */
    window(10, 0);
    idt[VECTOR_UD].ist = 2;
    hits = 0;
    CHECK_EQUAL(FAULT_OF("ud2", ), VECTOR_UD);
    CHECK_EQUAL(hits, 1);
    idt[VECTOR_UD].ist = 0;
    handlers[VECTOR_PF] = NULL;
    idt[VECTOR_PF].ist = 0;
    idt[VECTOR_IRQ].ist = 0;
    ist_stack(2, before);
}

/* --- single steps --- */

static u64 stepped[16];

static void step(struct frame *frame) {
    if (steps < 16)
        stepped[steps] = frame->rip;
    steps++;
    frame->rflags |= RFLAGS_RF; /* not again, where it is a fault */
}

/* Runs `text` with TF; `steps` must count one for each instruction, and one for POPF's own successor. */
#define STEPS_OF(text, ...)                                                                        \
    ({                                                                                             \
        steps = 0;                                                                                 \
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq\n\t" text                             \
                         "\n\tpushfq; andq $~0x100, (%%rsp); popfq" __VA_ARGS__);                   \
        steps;                                                                                     \
    })
/* PUSHFQ, ANDQ and POPFQ at the end are stepped, too. */
#define TAIL 3

static void check_single_step(void) {
    handlers[VECTOR_DB] = step;
    CHECK_EQUAL(STEPS_OF("nop", ::: "memory"), 1 + TAIL);
    CHECK_EQUAL(STEPS_OF("nop; nop", ::: "memory"), 2 + TAIL);
    CHECK_EQUAL(STEPS_OF("cpuid", ::"a"(0) : "ebx", "ecx", "edx", "memory"), 1 + TAIL);
    CHECK_EQUAL(STEPS_OF("cpuid; nop", ::"a"(0) : "ebx", "ecx", "edx", "memory"), 2 + TAIL);
    CHECK_EQUAL(STEPS_OF("inb %%dx, %%al", ::"d"(0x5658) : "eax", "memory"), 1 + TAIL);
    CHECK_EQUAL(STEPS_OF("outb %%al, %%dx", ::"d"(0x5658), "a"(0) : "memory"), 1 + TAIL);
    CHECK_EQUAL(STEPS_OF("rdmsr", ::"c"(MSR_EFER) : "eax", "edx", "memory"), 1 + TAIL);
    CHECK_EQUAL(STEPS_OF("mov (%0), %%rax", ::"r"(memory_size) : "rax", "memory"), 1 + TAIL);
    if (on_amd())
        CHECK_EQUAL(STEPS_OF("vmmcall", ::"a"(0) : "memory"), 1 + TAIL);
    else
        CHECK_EQUAL(STEPS_OF("vmcall", ::"a"(0) : "memory"), 1 + TAIL);
    u64 dr6;
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    CHECK_EQUAL(dr6 >> 14 & 1, 1); /* BS */
    /* HLT ends by the trap of its own step; an interrupt that never comes is not waited for. */
    CHECK_EQUAL(STEPS_OF("hlt", ::: "memory"), 1 + TAIL);
    handlers[VECTOR_DB] = NULL;
}

/* Breakpoints: on an instruction, and on data. */
static void check_breakpoints(void) {
    static volatile u64 watched;
    handlers[VECTOR_DB] = step;
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" ::"r"(&watched), "r"(0x400ull | 0x2 | 0xd0000));
    steps = 0;
    watched = 1;
    CHECK_EQUAL(steps, 1);
    cpuid(0, 0);
    in8(0x5658);
    watched = 2; /* an exit in between has not lost the registers */
    CHECK_EQUAL(steps, 2);
    u64 dr7;
    __asm__ volatile("mov %%dr7, %0" : "=r"(dr7));
    CHECK_EQUAL(dr7, 0x400ull | 0x2 | 0xd0000);
    __asm__ volatile("mov %0, %%dr7" ::"r"(0x400ull));
    watched = 3;
    CHECK_EQUAL(steps, 2);
    handlers[VECTOR_DB] = NULL;
}

static void note_and_skip(struct frame *frame) {
    note(frame);
    frame->rip = resume;
    resume = 0;
}

#define DR6_CLEAR 0xffff0ff0ull
#define DR6_BS    0x4000ull

static u64 read_dr6(void) {
    u64 dr6;
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    return dr6;
}

/* Of DR6 an exception clears only which breakpoints were met; INT1 adds nothing, and is over. */
static void check_dr6(void) {
    static volatile u64 watched;
    handlers[VECTOR_DB] = note;
    hits = 0;
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" ::"r"(&watched), "r"(0x400ull | 0x2 | 0xd0000));
    __asm__ volatile("mov %0, %%dr6" ::"r"(DR6_CLEAR | DR6_BS | 4));
    watched = 1;
    CHECK_EQUAL(read_dr6(), DR6_CLEAR | DR6_BS | 1);
    __asm__ volatile("mov %0, %%dr7; mov %1, %%dr6" ::"r"(0x400ull), "r"(DR6_CLEAR));
    CHECK_EQUAL(hits, 1);
    if (cpu_has("INT1 without a debugger of its own")) {
        u64 behind;
        __asm__ volatile(".byte 0xf1\n1: lea 1b(%%rip), %0" : "=r"(behind)::"memory");
        CHECK_EQUAL(hits, 2);
        CHECK_EQUAL(last_rip, behind);
        CHECK_EQUAL(read_dr6(), DR6_CLEAR);
    }
    handlers[VECTOR_DB] = NULL;
}

/* A fault pushes RF, whoever raises it; an instruction that is done clears it, whoever did it. */
static void check_resume_flag(void) {
    handlers[VECTOR_GP] = handlers[VECTOR_UD] = note_and_skip;
    last_rflags = 0;
    __asm__ volatile(PROBE("rdmsr")::"c"(0x12345678) : "eax", "edx", "memory");
    CHECK_EQUAL(last_rflags & RFLAGS_RF, RFLAGS_RF);
    last_rflags = 0;
    __asm__ volatile(PROBE("monitor")::"a"(&hits), "c"(0), "d"(0) : "memory");
    CHECK_EQUAL(last_rflags & RFLAGS_RF, RFLAGS_RF);
    handlers[VECTOR_GP] = handlers[VECTOR_UD] = NULL;
    handlers[VECTOR_DB] = step;
    steps = 0;
    __asm__ volatile("lea 2f(%%rip), %%rax; mov %%rax, %%dr0; mov %0, %%dr7\n\t"
                     "mov %%rsp, %%rcx; mov %%ss, %%eax; push %%rax; push %%rcx\n\t"
                     "pushfq; orq $0x10000, (%%rsp); mov %%cs, %%eax; push %%rax\n\t"
                     "lea 1f(%%rip), %%rax; push %%rax; iretq\n"
                     "1: xor %%eax, %%eax; cpuid\n"
                     "2: jmp 3f\n"
                     "3: mov %1, %%dr7"
                     ::"r"(0x402ull), "r"(0x400ull)
                     : "rax", "rbx", "rcx", "rdx", "memory");
    CHECK_EQUAL(steps, 1);
    handlers[VECTOR_DB] = NULL;
}

/* --- the shadows of STI and MOV SS --- */

static void check_shadow(void) {
    u64 behind;
    handlers[VECTOR_IRQ] = note;
    hits = 0;
    wrmsr(APIC_SELF_IPI, VECTOR_IRQ);
    __asm__ volatile("sti\n1: nop\n2: cli; lea 2b(%%rip), %0" : "=r"(behind)::"memory");
    CHECK_EQUAL(hits, 1);
    CHECK_EQUAL(last_rip, behind);
    /* CPUID exits in the shadow: the interrupt comes behind it, not before. */
    wrmsr(APIC_SELF_IPI, VECTOR_IRQ);
    __asm__ volatile("sti\n1: cpuid\n2: nop; cli; lea 2b(%%rip), %0"
                     : "=r"(behind)
                     : "a"(0)
                     : "rbx", "rcx", "rdx", "memory");
    CHECK_EQUAL(hits, 2);
    CHECK_EQUAL(last_rip, behind);
    /* STI; CLI: no interrupt gets in. */
    wrmsr(APIC_SELF_IPI, VECTOR_IRQ);
    __asm__ volatile("sti; cli" ::: "memory");
    CHECK_EQUAL(hits, 2);
    __asm__ volatile("sti; nop; cli" ::: "memory");
    CHECK_EQUAL(hits, 3);
    /* An exit inside of the handler does not end another shadow: MOV SS holds off a step. */
    wrmsr(APIC_SELF_IPI, VECTOR_IRQ);
    u32 ss = 0x18;
    __asm__ volatile("sti; nop; mov %1, %%ss\n cpuid\n cli" : "+a"(behind) : "c"(ss) : "rbx", "rdx", "memory");
    CHECK_EQUAL(hits, 4);
}

/* --- NMIs block NMIs until IRET --- */

static volatile u64 nmis, nmis_in_handler;

static void nmi(struct frame *frame) {
    (void)frame;
    if (nmis++ == 0) {
        wrmsr(APIC_ICR, 1u << 18 | 4u << 8);
        cpuid(0, 0);
        nmis_in_handler = nmis;
    }
    in8(0x70); /* the device model answers, and does not inherit the blocking */
}

static void check_nmi(void) {
    handlers[VECTOR_NMI] = nmi;
    wrmsr(APIC_ICR, 1u << 18 | 4u << 8);
    __asm__ volatile("nop; nop");
    CHECK_EQUAL(nmis_in_handler, 1);
    CHECK_EQUAL(nmis, 2);
    in8(0x70);
    wrmsr(APIC_ICR, 1u << 18 | 4u << 8);
    __asm__ volatile("nop; nop");
    CHECK_EQUAL(nmis, 3);
    handlers[VECTOR_NMI] = NULL;
}

/* --- INT3, INTO's like, and software vectors that exceptions have --- */

static void check_software(void) {
    handlers[VECTOR_BP] = note;
    hits = 0;
    __asm__ volatile("int3");
    CHECK_EQUAL(hits, 1);
    handlers[VECTOR_BP] = NULL;
    handlers[200] = note;
    __asm__ volatile("int $200");
    CHECK_EQUAL(hits, 2);
    handlers[200] = NULL;
}

void test_main(void) {
    apic_enable();
    check_double_fault();
    check_unmapped_stack();
    check_single_step();
    check_breakpoints();
    check_dr6();
    check_resume_flag();
    check_shadow();
    check_nmi();
    check_software();
}
