# The one entry to building, running, testing and measuring Plinth: `make help` lists the targets.

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SUFFIXES:

BUILD   := build
VERSION := $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' package.json)
NPMBIN  := node_modules/.bin
JOBS    := $(shell nproc)

# Settings of the rig: `make run RIG=bochs MEMORY=1024 CPUS=2`.
RIG    ?= auto
MEMORY ?= 512
CPUS   ?= 1

# Each public target first makes sure that the machine has what is needed.
.PHONY: help setup all iso run test bench debug clean
help:
	@echo "make run     build, boot the best rig there is, open the shell (without a terminal: play the demo)"
	@echo "make test    all checks and tests; ONLY=unit|control|cli|rigs|boot or a part of a file's name narrows it"
	@echo "make bench   measure exit costs, boot time, sizes; print them beside the budgets"
	@echo "make iso     build/plinth.iso, a hybrid BIOS and UEFI image, also for a USB stick"
	@echo "make all     everything but the image; make setup: only what the machine lacks"
	@echo "make debug   boot under Bochs with its debugger at the prompt"
	@echo "make format  format C and TypeScript; make clean: remove build/ (downloads stay in .cache/)"
	@echo "settings     RIG=auto|bochs|qemu-kvm MEMORY=$(MEMORY) (MiB) CPUS=$(CPUS)"

setup:
	@boot/images/setup.sh

all iso run test bench debug: setup
	@$(MAKE) --no-print-directory -j$(JOBS) do-$@

clean:
	rm -rf $(BUILD) control/gen

.PHONY: do-all do-iso do-run do-test do-bench do-debug format
do-all: $(BUILD)/kernel.elf $(BUILD)/control.bin $(BUILD)/device-model.bin tools
do-iso: $(BUILD)/plinth.iso

do-run: $(BUILD)/plinth.iso tools
	@node $(BUILD)/tools/run.cjs --rig $(RIG) --memory $(MEMORY) --cpus $(CPUS)

do-test: do-all $(BUILD)/plinth.iso $(BUILD)/bad-input.iso $(BUILD)/disk.iso
	@node $(BUILD)/tools/test.cjs $(ONLY)

do-bench: $(BUILD)/plinth.iso $(BUILD)/bench.iso tools
	@node $(BUILD)/tools/bench.cjs

do-debug: $(BUILD)/plinth.iso tools
	@node $(BUILD)/tools/run.cjs --rig bochs --memory $(MEMORY) --cpus $(CPUS) --debugger

format: setup
	$(NPMBIN)/prettier --log-level warn --write 'boot/**/*.ts' 'control/**/*.ts' 'test/**/*.ts' '*.json'
	clang-format -i $(wildcard kernel/*.[ch] boot/*.[ch] control/native/*.[ch] test/unit/*.[ch])

# ---- Kernel ---------------------------------------------------------------------------------

KERNEL_SOURCES := $(wildcard kernel/*.c kernel/*.S boot/*.c boot/*.S)
KERNEL_OBJECTS := $(KERNEL_SOURCES:%=$(BUILD)/obj/%.o)
KERNEL_FLAGS   := -std=gnu11 -O2 -g -ffreestanding -mcmodel=kernel -mgeneral-regs-only -mno-red-zone \
	-fno-pic -no-pie -fno-stack-protector -fno-omit-frame-pointer -fcf-protection=none \
	-fno-strict-aliasing -fno-asynchronous-unwind-tables -Wall -Wextra -Werror -iquote kernel -iquote boot \
	-DPLINTH_VERSION='"$(VERSION)"'

# On the path of every exit a frame pointer is a tenth of the cost.
HOT := exit sched cpuid msr vapic vcpu inject hypercall
$(HOT:%=$(BUILD)/obj/kernel/%.c.o): KERNEL_FLAGS += -fomit-frame-pointer

$(BUILD)/obj/%.c.o: %.c Makefile package.json
	@mkdir -p $(@D)
	@echo "  cc      $<"
	@gcc $(KERNEL_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.S.o: %.S Makefile package.json
	@mkdir -p $(@D)
	@echo "  as      $<"
	@gcc $(KERNEL_FLAGS) -Wa,--fatal-warnings -MMD -MP -c $< -o $@

$(BUILD)/kernel.elf: $(KERNEL_OBJECTS) kernel/kernel.ld
	@echo "  ld      $@"
	@ld -nostdlib -static -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments \
		--build-id=none -T kernel/kernel.ld -o $@ $(KERNEL_OBJECTS)

-include $(KERNEL_OBJECTS:.o=.d)

# ---- Components: build/NAME.bin and the generated ABI in control/gen --------------------------

.PHONY: abi
abi:
-include control/native/component.mk
-include test/guest/guests.mk

# ---- Tools that run in Node, each one bundle --------------------------------------------------

HOST_SOURCES := $(shell find boot control/cli control/protocol test -name '*.ts' 2>/dev/null) package.json
ESBUILD      := $(NPMBIN)/esbuild --bundle --platform=node --target=node18 --format=cjs --log-level=warning \
	--define:PLINTH_VERSION='"$(VERSION)"'

TOOLS := $(BUILD)/tools/run.cjs $(BUILD)/tools/rig-supervisor.cjs \
	$(BUILD)/tools/test.cjs $(if $(wildcard test/bench.ts),$(BUILD)/tools/bench.cjs) \
	$(if $(wildcard control/cli/main.ts),$(BUILD)/plinth.cjs)
.PHONY: tools
tools: $(TOOLS)

$(BUILD)/tools/run.cjs: ENTRY = boot/rigs/run.ts
$(BUILD)/tools/rig-supervisor.cjs: ENTRY = boot/rigs/supervisor.ts
$(BUILD)/tools/test.cjs: ENTRY = test/run.ts
$(BUILD)/tools/bench.cjs: ENTRY = test/bench.ts
$(BUILD)/tools/make-initrd.cjs: ENTRY = boot/images/make-initrd.ts
$(BUILD)/tools/make-spec.cjs: ENTRY = boot/images/make-spec.ts
$(BUILD)/tools/%.cjs: $(HOST_SOURCES) | abi
	@echo "  esbuild $@"
	@$(ESBUILD) $(ENTRY) --outfile=$@

$(BUILD)/plinth.cjs: control/cli/main.ts $(HOST_SOURCES) | abi
	@echo "  esbuild $@"
	@$(ESBUILD) $< --minify --banner:js='#!/usr/bin/env node' --outfile=$@
	@chmod +x $@

# ---- Guest images and the boot image ----------------------------------------------------------

$(BUILD)/guest/linux $(BUILD)/guest/busybox $(BUILD)/guest/e2fsck $(BUILD)/guest/modules &: boot/images/fetch-guest.sh
	@boot/images/fetch-guest.sh .cache $(BUILD)/guest

$(BUILD)/guest/initrd.cpio: $(BUILD)/tools/make-initrd.cjs $(BUILD)/guest/busybox $(wildcard boot/images/guest/*)
	@echo "  initrd  $@"
	@node $< $(BUILD)/guest/busybox boot/images/guest $@

$(BUILD)/guest/initrd-virtio.cpio: $(BUILD)/tools/make-initrd.cjs $(BUILD)/guest/busybox $(BUILD)/guest/modules \
		$(BUILD)/guest/e2fsck $(wildcard boot/images/guest/*)
	@echo "  initrd  $@"
	@node $< $(BUILD)/guest/busybox boot/images/guest $@ $(BUILD)/guest/modules $(BUILD)/guest/e2fsck

$(BUILD)/spec.cbor: $(BUILD)/tools/make-spec.cjs boot/images/demo.json
	@echo "  spec    $@"
	@node $< boot/images/demo.json $@

$(BUILD)/plinth.iso: boot/images/make-iso.sh boot/images/grub.cfg $(BUILD)/kernel.elf $(BUILD)/control.bin \
		$(BUILD)/device-model.bin $(BUILD)/spec.cbor $(BUILD)/guest/linux $(BUILD)/guest/initrd.cpio
	@echo "  iso     $@"
	@boot/images/make-iso.sh $@ boot/images/grub.cfg $(filter $(BUILD)/%,$^)

# ---- What the boot tests boot beside it -------------------------------------------------------

$(BUILD)/guest/truncated: $(BUILD)/guest/linux
	@head -c 1000000 $< > $@

$(BUILD)/guest/broken-spec: $(BUILD)/spec.cbor
	@head -c 100 $< > $@

# A disk with an empty ext4 file system.
$(BUILD)/guest/disk.img: boot/images/setup.sh
	@mkdir -p $(@D)
	@truncate -s 8M $@
	@PATH=$$PATH:/sbin:/usr/sbin mke2fs -q -F -t ext4 -b 1024 -J size=1 -L plinth $@

$(BUILD)/disk.iso: boot/images/make-iso.sh test/boot/disk.cfg $(BUILD)/kernel.elf $(BUILD)/control.bin \
		$(BUILD)/device-model.bin $(BUILD)/guest/linux $(BUILD)/guest/initrd-virtio.cpio $(BUILD)/guest/disk.img
	@echo "  iso     $@"
	@boot/images/make-iso.sh $@ test/boot/disk.cfg $(filter $(BUILD)/%,$^)

$(BUILD)/bench.iso: boot/images/make-iso.sh test/bench/bench.cfg $(BUILD)/kernel.elf $(BUILD)/control.bin \
		$(BUILD)/device-model.bin $(BUILD)/guest/linux $(BUILD)/guest/initrd.cpio $(BUILD)/guest-tests/bench
	@echo "  iso     $@"
	@boot/images/make-iso.sh $@ test/bench/bench.cfg $(filter $(BUILD)/%,$^)

$(BUILD)/bad-input.iso: boot/images/make-iso.sh test/boot/bad-input.cfg $(BUILD)/kernel.elf $(BUILD)/control.bin \
		$(BUILD)/device-model.bin $(BUILD)/guest/broken-spec $(BUILD)/guest/linux $(BUILD)/guest/initrd.cpio \
		$(BUILD)/guest/truncated
	@echo "  iso     $@"
	@boot/images/make-iso.sh $@ test/boot/bad-input.cfg $(filter $(BUILD)/%,$^)
