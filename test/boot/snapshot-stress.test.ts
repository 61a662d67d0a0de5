// A VM under stress is kept while it works, and goes back.
// rigs: VT-x, AMD-V

import { snapshotStress } from "./snapshot-stress";

snapshotStress(6, 20);
