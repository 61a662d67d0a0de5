// The stress of interrupts between vCPUs, on hosts with fewer and with as many CPUs as the VM has.
// rigs: VT-x, AMD-V

import { stress } from "./stress";

for (const hostCpus of [2, 4]) stress(hostCpus, 4, 30);
