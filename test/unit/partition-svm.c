// with:
/* partition.c on AMD-V. */
#define BACKEND "svm_cpu.h"
#define HOST_IS_AMD
#include "partition.c"
