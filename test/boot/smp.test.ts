// VMs of several vCPUs that share the host's one CPU.
// rigs: VT-x, AMD-V

import { smpTests } from "./smp";

smpTests(1, [2, 4]);
