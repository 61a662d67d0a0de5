// A VM whose vCPUs all run at once.
// rigs: VT-x, AMD-V

import { smpTests } from "./smp";

smpTests(4, [4]);
