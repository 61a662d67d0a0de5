// A short stress of interrupts between vCPUs; longer, and with more CPUs: stress.long.test.ts.
// rigs: VT-x, AMD-V

import { stress } from "./stress";

stress(1, 4, 100);
