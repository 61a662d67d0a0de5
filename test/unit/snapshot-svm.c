// with:
/* snapshot.c with the AMD-V backend. */
#define BACKEND "svm_cpu.h"
#include "snapshot.c"
