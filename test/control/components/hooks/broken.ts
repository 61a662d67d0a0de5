// Hooks that trap when a VM of one name is to be admitted.

import { Hooks, HookVm } from "../../../../control/domain/hooks/hooks";

class BrokenHooks extends Hooks {
  override admit(vm: HookVm): string {
    if (vm.name == "trap") throw new Error("this hook traps");
    return "";
  }
}

export function hooks(): Hooks {
  return new BrokenHooks();
}
