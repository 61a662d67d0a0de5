// A VM of four vCPUs under stress, on one, two and four CPUs: a tiny guest, and stock Linux.

import { stress } from "./stress";
import { stressLinuxSuite } from "./stress-linux";

for (const hostCpus of [1, 2, 4]) {
  stress(hostCpus, 4, 1000);
  stressLinuxSuite(hostCpus, 4, 100);
}
