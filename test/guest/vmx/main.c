/* Instructions for hypervisors and firmware: none of them does anything here. */
#include "guest.h"

const char title[] = "vmx";

static u64 operand[2] __attribute__((aligned(4096)));

#define CHECK_UD(...) CHECK_EQUAL(FAULT_OF(__VA_ARGS__), VECTOR_UD)

void test_main(void) {
    CHECK_UD("vmxon %0", ::"m"(operand) : "memory");
    CHECK_UD("vmclear %0", ::"m"(operand) : "memory");
    CHECK_UD("vmptrld %0", ::"m"(operand) : "memory");
    CHECK_UD("vmptrst %0", ::"m"(operand) : "memory");
    CHECK_UD("vmlaunch", ::: "memory");
    CHECK_UD("vmresume", ::: "memory");
    CHECK_UD("vmxoff", ::: "memory");
    CHECK_UD("vmread %%rax, %%rcx", ::: "rcx", "memory");
    CHECK_UD("vmwrite %%rcx, %%rax", ::: "memory");
    CHECK_UD("invept %0, %%rax", ::"m"(operand), "a"(1) : "memory");
    CHECK_UD("invvpid %0, %%rax", ::"m"(operand), "a"(1) : "memory");
    CHECK_UD("vmfunc", ::"a"(0), "c"(0) : "memory");
    CHECK_UD("getsec", ::"a"(0), "b"(0) : "memory");
    CHECK_UD("rsm", ::: "memory");
    CHECK_UD("monitor", ::"a"(operand), "c"(0), "d"(0));
    CHECK_UD("mwait", ::"a"(0), "c"(0));
    CHECK_UD("vmrun", ::"a"(operand) : "memory");
    CHECK_EQUAL(FAULT_OF("rdpmc", ::"c"(0) : "eax", "edx"), VECTOR_GP);
    CHECK_EQUAL(FAULT_OF("invd", ::: "memory"), NO_FAULT);
    CHECK_EQUAL(FAULT_OF("wbinvd", ::: "memory"), NO_FAULT);
    if (on_amd()) /* the other vendor's */
        CHECK_UD("vmcall", ::: "memory");
    else
        CHECK_UD("vmmcall", ::: "memory");
    /* No hypercall of the kernel's own components is a VM's. */
    for (u64 number = 0; number < 64; number++)
        CHECK_EQUAL(hypercall(number), (u64)-1000);
    CHECK_EQUAL(hypercall(~0ull), (u64)-1000);
}
