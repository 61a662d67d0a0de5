# Builds components: AssemblyScript -> build/NAME.wasm -> build/NAME.elf (symbols) -> build/NAME.bin,
# and the TypeScript expansions of kernel/abi.def in control/gen. Included by the top Makefile.
#
# `$(eval $(call component,NAME,ENTRY,SOURCES))` adds a component; `make components` builds all of them.

GEN := control/gen
ABI_TS := $(GEN)/abi.ts $(GEN)/abi64.ts $(GEN)/abi64-node.ts $(GEN)/layout.ts
ABI_CPP := gcc -E -P -undef -x c -Ikernel
BIN := node_modules/.bin

# Other generated sources that components import; the protocol's rules append theirs.
COMPONENT_GEN ?=

ASC_FLAGS := --runtime minimal -O3 --debug --exportRuntime --exportStart _start \
	--use abort=control/lib/binding/abort --memoryBase 65536 --maximumMemory 4096

COMPONENT_CFLAGS := -std=gnu11 -O2 -ffreestanding -nostdinc -isystem control/native/include \
	-isystem $(shell gcc -print-file-name=include) -Ikernel -Icontrol/native -isystem build \
	-mgeneral-regs-only -ffixed-r15 -mno-red-zone -fno-pic -fno-stack-protector -fcf-protection=none \
	-fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-strict-aliasing \
	-fno-tree-loop-distribute-patterns -ffunction-sections -fdata-sections \
	-DWASM_RT_MEMCHECK_GUARD_PAGES=1

COMPONENT_NATIVE := $(wildcard control/native/*.h control/native/include/*.h) \
	kernel/abi.def kernel/abi.h kernel/types.h

.PHONY: abi components test-components
abi: $(ABI_TS)

$(GEN)/abi.ts: control/native/abi-enums.h kernel/abi.def
$(GEN)/abi64.ts: control/native/abi-wide.h kernel/abi.def
$(GEN)/abi64-node.ts: control/native/abi-wide.h kernel/abi.def
$(GEN)/layout.ts: control/native/abi-layout.h kernel/abi.def
$(GEN)/abi64-node.ts: ABI_DEFINE := -DABI_FOR_NODE
$(ABI_TS):
	@mkdir -p $(GEN)
	@$(ABI_CPP) $(ABI_DEFINE) $< -o $@.tmp
	@sed -e '1i // Generated from kernel/abi.def by make abi.' -e '/^$$/d' $@.tmp > $@ && rm $@.tmp

# NAME, entry file, its own sources.
define component
build/$(1).wasm: $(2) $(3) $(wildcard control/lib/*.ts control/protocol/*.ts) $(ABI_TS) $(COMPONENT_GEN) \
		control/native/component.mk control/native/check-module.sh
	@mkdir -p $$(@D)
	@echo "  ASC   $$@"
	@$(BIN)/asc $(2) -o $$@.tmp.wasm $(ASC_FLAGS)
	@sh control/native/check-module.sh $$@.tmp.wasm $(2) || { rm -f $$@.tmp.wasm; exit 1; }
	@mv $$@.tmp.wasm $$@

# Accesses to linear memory are relative to the register that wasm-rt.h keeps for it.
build/$(1).c: build/$(1).wasm control/native/component.mk
	@echo "  WASM2C $$@"
	@$(BIN)/wasm2c $$< -n component -o build/$(1).raw.c
	@sed 's|&((mem)->data\[addr\])|(linear_base + (addr))|w $$@.count' build/$(1).raw.c > $$@
	@[ "$$$$(wc -l < $$@.count)" -eq 1 ] || { echo "$$@: wasm2c has another MEM_ADDR" >&2; exit 1; }

# One program with the runtime, so that each sees through the other.
build/$(1).o: control/native/runtime.c build/$(1).c $(COMPONENT_NATIVE)
	@echo "  CC    $$@"
	@gcc $(COMPONENT_CFLAGS) -Wall -Wextra -fwhole-program -DCOMPONENT_MODULE='<$(1).c>' \
		-DSERVES_EXITS="$$$$(grep -c w2c_component_exitBuffer build/$(1).raw.h)" -c $$< -o $$@

build/$(1).elf: build/component-start.o build/component-memory.o build/component-trap.o \
		build/$(1).o control/native/component.ld
	@echo "  LD    $$@"
	@ld -nostdlib -static --gc-sections -z noexecstack -z max-page-size=4096 --no-warn-rwx-segments \
		--defsym image_role="$$$$(grep -q w2c_component_exitBuffer build/$(1).raw.h; echo $$$$((1 - $$$$?)))" \
		-T control/native/component.ld -o $$@ $$(filter %.o,$$^)

build/$(1).bin: build/$(1).elf
	@objcopy -O binary $$< $$@
endef

build/component-start.o: control/native/start.S $(COMPONENT_NATIVE)
	@mkdir -p build
	@echo "  CC    $@"
	@gcc $(COMPONENT_CFLAGS) -c $< -o $@

build/component-memory.o build/component-trap.o: build/component-%.o: control/native/%.c \
		$(COMPONENT_NATIVE)
	@mkdir -p build
	@echo "  CC    $@"
	@gcc $(COMPONENT_CFLAGS) -Wall -Wextra -c $< -o $@

.PRECIOUS: build/%.c build/%.o
$(eval $(call component,control,control/domain/index.ts,$(shell find control/domain -name '*.ts')))
$(eval $(call component,device-model,control/device-model/index.ts,$(shell find control/device-model -name '*.ts')))

# The control component with other policy hooks, for `plinth control upgrade`: build/control-NAME.bin from NAME.ts.
HOOKS ?= control/domain/hooks/lab.ts
TEST_HOOKS := control/domain/hooks/lab.ts test/control/components/hooks/broken.ts
hooks_name = $(basename $(notdir $(1)))

.PHONY: control-image
control-image: build/control-$(call hooks_name,$(HOOKS)).bin build/control-$(call hooks_name,$(HOOKS)).cjs
	@echo "next: plinth control upgrade $<"

define hooked
$(GEN)/hooks-$(call hooks_name,$(1)).ts: control/native/component.mk
	@mkdir -p $$(@D)
	@printf '%s\n' '// Made of $(1) by make control-image.' \
		'import { hooks } from "../../$(1:.ts=)";' \
		'import { hooksUse } from "../domain/hooks/chosen";' \
		'hooksUse(hooks());' \
		'export { init, onEvents } from "../domain/index";' > $$@
build/control-$(call hooks_name,$(1)).cjs: $(1) control/domain/hooks/hooks.ts
	@$(BIN)/esbuild --bundle --platform=node --format=cjs --log-level=warning $(1) --outfile=$$@
$(call component,control-$(call hooks_name,$(1)),$(GEN)/hooks-$(call hooks_name,$(1)).ts,$(1) $(shell find control/domain -name '*.ts'))
endef
$(foreach file,$(sort $(HOOKS) $(TEST_HOOKS)),$(eval $(call hooked,$(file))))
do-test: $(foreach file,$(TEST_HOOKS),build/control-$(call hooks_name,$(file)).wasm build/control-$(call hooks_name,$(file)).cjs)

build/components/emulator.wasm build/components/hostile.wasm: $(shell find control/device-model -name '*.ts')

components: build/control.bin build/device-model.bin

# Components that only tests use: test/control/components/NAME.ts -> build/components/NAME.wasm
TEST_COMPONENTS := $(patsubst test/control/components/%.ts,components/%,$(wildcard test/control/components/*.ts))
$(foreach name,$(TEST_COMPONENTS),$(eval $(call component,$(name),test/control/$(name).ts,)))
test-components: $(TEST_COMPONENTS:%=build/%.wasm)
do-test: test-components
