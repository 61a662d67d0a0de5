// The entropy device: fills buffers with what the CPU's generator gives.
//
// Source: virtio 1.2, section 5.4, "Entropy Device".

import { entropy } from "../../lib/binding";
import { ENTROPY_MAX } from "../../gen/abi";
import { chain } from "./chain";
import { VirtioDevice } from "./device";

const ID: u32 = 4;
const CLASS_OTHER: u32 = 0xff0000;

const bytes: usize = memory.data(ENTROPY_MAX, 8);

/** Whether this host has entropy to give. */
export function hasEntropy(): bool {
  return entropy(bytes, 8) >= 0;
}

export class Rng extends VirtioDevice {
  constructor() {
    super("rng", ID, CLASS_OTHER, 0, 1, 8, 0);
  }

  // A buffer gets what one call gives; the driver learns how much that was, and asks again.
  process(index: u32): void {
    const queue = this.queues[index];
    while (queue.pop()) {
      const length = <u32>min<u64>(chain.writable, ENTROPY_MAX);
      if (length == 0 || entropy(bytes, length) < 0) {
        queue.fault = length == 0 ? "a buffer for entropy cannot be written" : "the CPU gave no entropy";
        break;
      }
      chain.put(bytes, length);
      queue.push();
    }
    this.finish(index);
  }
}
