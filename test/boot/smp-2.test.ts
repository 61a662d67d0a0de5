// A VM of more vCPUs than the host has CPUs.
// rigs: VT-x, AMD-V

import { smpTests } from "./smp";

smpTests(2, [4]);
