// A hundred upgrades, roll-backs and kills of the control component at random: no VM misses a tick.

import { guestSuite } from "./guest-runner";
import { churn } from "./upgrade";

const ROUNDS = 100;
const test = guestSuite("upgrade");

test("a hundred", (context) => churn(context, ROUNDS));

test.run();
