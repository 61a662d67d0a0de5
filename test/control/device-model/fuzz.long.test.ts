// The fuzz tests at 25 times their length: four million actions on 2,000 machines, and 2.6 million on virtio devices, in
// some five minutes of one CPU. PLINTH_FUZZ=N: N times the length; PLINTH_SEED=N: other inputs.

import { test } from "uvu";
import { fuzz } from "./fuzzer";

process.env["PLINTH_FUZZ"] ??= "25";
const MACHINES = 80 * Number(process.env["PLINTH_FUZZ"]);
const FIRST = Number(process.env["PLINTH_SEED"] ?? 1000);
const STEPS = 2000;

test("whole machines", () => {
  for (let n = 0; n < MACHINES; n++) fuzz(FIRST + n, STEPS);
});

void import("./virtio-fuzz.test"); // which runs both
