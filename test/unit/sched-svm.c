// with:
/* sched.c with the AMD-V backend. */
#define BACKEND "svm_cpu.h"
#include "sched.c"
