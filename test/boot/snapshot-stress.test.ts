// A VM under stress is kept while it works, and goes back, a dozen times.
// rigs: VT-x, AMD-V

import { snapshotStress } from "./snapshot-stress";

snapshotStress(12, 30);
