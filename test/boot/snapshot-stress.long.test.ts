// A VM under stress is kept while it works a hundred times, and goes back to some of it.
// rigs: VT-x, AMD-V

import { snapshotStress } from "./snapshot-stress";

snapshotStress(100, 100);
