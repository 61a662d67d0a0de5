// with:
/* cow.c with the AMD-V backend. */
#define BACKEND "svm_cpu.h"
#include "cow.c"
