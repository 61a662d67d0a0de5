/* The four functions of <string.h> that a freestanding component has. */
#pragma once
#include "types.h"
