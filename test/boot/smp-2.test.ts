// A VM of more vCPUs than the host has CPUs.
// rigs: AMD-V, VT-x (long)

import { smpTests } from "./smp";

smpTests(2, [4]);
