// A million random calls of the kernel by components: statuses, neighbours that miss nothing, and nothing is left.
// rigs: VT-x, AMD-V

import { callAtRandom, isolationSuite } from "./isolation";

const SEEDS = 10;
/** Of each, with what it has; and as many losing it. */
const CALLS = 50_000;

const test = isolationSuite();

for (let seed = 1; seed <= SEEDS; seed++)
  test(`seed ${seed}`, (context) => callAtRandom(context, CALLS, seed));

test.run();
