// with:
/* fuzz.c with the AMD-V backend, and CPUs without SMT. */
#define HOST_THREADS 1
#define BACKEND      "svm_cpu.h"
#include "fuzz.c"
