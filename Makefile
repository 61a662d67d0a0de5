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
export PLINTH_RIG := $(RIG)

# Each public target first makes sure that the machine has what is needed.
.PHONY: help setup all iso run test test-long bench debug clean
help:
	@echo "make run     build, boot the best rig there is, open the shell (without a terminal: play the demo)"
	@echo "make test    all checks and tests; ONLY=unit|control|cli|rigs|boot or a part of a file's name narrows it"
	@echo "make test-long  the tests that take minutes each (*.long.test.ts); ONLY=part of a file's name narrows it"
	@echo "make bench   measure exit costs, boot time, sizes; print them beside the budgets"
	@echo "make iso     build/plinth.iso, a hybrid BIOS and UEFI image, also for a USB stick"
	@echo "make all     everything but the image; make setup: only what the machine lacks"
	@echo "make debug   boot in QEMU under GDB, with commands for the kernel; RIG=bochs: in Bochs's own debugger"
	@echo "make format  format C and TypeScript; make clean: remove build/ (downloads stay in .cache/)"
	@echo "settings     RIG=auto|qemu-kvm|qemu-tcg|bochs MEMORY=$(MEMORY) (MiB) CPUS=$(CPUS)"

setup:
	@boot/images/setup.sh

all iso run test test-long bench debug: setup
	@$(MAKE) --no-print-directory -j$(JOBS) do-$@

clean:
	rm -rf $(BUILD) control/gen

.PHONY: do-all do-iso do-run do-test do-test-long do-bench do-debug format
do-all: $(BUILD)/kernel.elf $(BUILD)/control.bin $(BUILD)/device-model.bin tools
do-iso: $(BUILD)/plinth.iso

do-run: $(BUILD)/plinth.iso tools
	@node $(BUILD)/tools/run.cjs --memory $(MEMORY) --cpus $(CPUS)

do-test: do-all $(BUILD)/plinth.iso $(BUILD)/bad-input.iso $(BUILD)/disk.iso $(BUILD)/starts.iso \
		$(BUILD)/firmware.iso $(BUILD)/panic.iso
	@node $(BUILD)/tools/test.cjs $(ONLY)

do-test-long: do-all $(BUILD)/plinth.iso $(BUILD)/starts.iso $(BUILD)/firmware.iso $(BUILD)/disk.iso $(BUILD)/bad-input.iso
	@node $(BUILD)/tools/test.cjs --long $(ONLY)

do-bench: $(BUILD)/plinth.iso tools
	@PLINTH_RIG=$(RIG:auto=bochs) node $(BUILD)/tools/bench.cjs

do-debug: $(BUILD)/plinth.iso tools
	@node $(BUILD)/tools/run.cjs --rig $(RIG) --memory $(MEMORY) --cpus $(CPUS) --debugger

format: setup
	$(NPMBIN)/prettier --log-level warn --write 'boot/**/*.ts' 'control/**/*.ts' 'test/**/*.ts' '*.json'
	clang-format -i $(filter-out control/native/abi-%,$(wildcard kernel/*.[ch] boot/*.[ch] control/native/*.[ch] test/unit/*.[ch]))

# ---- Kernel ---------------------------------------------------------------------------------

# The image is linked twice, with one backend each, and boot/start.S takes the one for the machine: so no exit
# pays for the other. What knows of the backend is compiled twice.
KERNEL_SOURCES  := $(wildcard kernel/*.c kernel/*.S boot/*.c boot/*.S)
BACKEND_SOURCES := $(shell grep -l '"guest.h"' kernel/*.c)
KERNEL_OBJECTS  := $(patsubst %,$(BUILD)/obj/%.o,$(filter-out kernel/svm%,$(KERNEL_SOURCES)))
SVM_OBJECTS     := $(patsubst %,$(BUILD)/obj/%.o,$(filter-out kernel/vmx% $(BACKEND_SOURCES) boot/other.S,$(KERNEL_SOURCES))) \
	$(patsubst %,$(BUILD)/obj/svm/%.o,$(filter-out kernel/vmx%,$(BACKEND_SOURCES)))
KERNEL_FLAGS   := -std=gnu11 -O2 -g -ffreestanding -mcmodel=kernel -mgeneral-regs-only -mno-red-zone \
	-fno-pic -no-pie -fno-stack-protector -fno-omit-frame-pointer -fcf-protection=none \
	-fno-strict-aliasing -fno-asynchronous-unwind-tables -Wall -Wextra -Werror -iquote kernel -iquote boot \
	-DPLINTH_VERSION='"$(VERSION)"'

# On the path of every exit a frame pointer is a tenth of the cost.
HOT := exit brake sched queue core timeout cpuid msr vapic vcpu inject hypercall
$(HOT:%=$(BUILD)/obj/kernel/%.c.o) $(HOT:%=$(BUILD)/obj/svm/kernel/%.c.o): KERNEL_FLAGS += -fomit-frame-pointer

$(BUILD)/obj/%.c.o: %.c Makefile package.json
	@mkdir -p $(@D)
	@echo "  cc      $<"
	@gcc $(KERNEL_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/font.psf: boot/images/fetch-package.sh
	@$< .cache console-setup-linux ./usr/share/consolefonts/Lat15-Fixed16.psf.gz $@.gz
	@gzip -dc $@.gz > $@

$(BUILD)/obj/boot/font.S.o: $(BUILD)/font.psf

$(BUILD)/obj/svm/%.c.o: %.c Makefile package.json
	@mkdir -p $(@D)
	@echo "  cc      $< for AMD-V"
	@gcc $(KERNEL_FLAGS) -DGUEST_H='"svm_guest.h"' -MMD -MP -c $< -o $@

$(BUILD)/obj/%.S.o: %.S Makefile package.json
	@mkdir -p $(@D)
	@echo "  as      $<"
	@gcc $(KERNEL_FLAGS) -Wa,--fatal-warnings,-I$(BUILD) -MMD -MP -c $< -o $@

LINK_KERNEL = ld -nostdlib -static -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments \
	--build-id=sha1 $(LINK_AT) -T kernel/kernel.ld

$(BUILD)/kernel.elf: $(KERNEL_OBJECTS) kernel/kernel.ld
	@echo "  ld      $@"
	@$(LINK_KERNEL) -o $@ $(KERNEL_OBJECTS)

$(BUILD)/kernel-svm.elf: LINK_AT := --defsym IMAGE=0x200000
$(BUILD)/kernel-svm.elf: $(SVM_OBJECTS) kernel/kernel.ld
	@echo "  ld      $@"
	@$(LINK_KERNEL) -o $@ $(SVM_OBJECTS)

$(BUILD)/kernel-svm.bin $(BUILD)/panic/kernel-svm.bin: %.bin: %.elf
	@objcopy -O binary $< $@

$(BUILD)/obj/boot/other.S.o: $(BUILD)/kernel-svm.bin

# What is booted: symbols would only be read from the medium and thrown away.
$(BUILD)/kernel $(BUILD)/panic/kernel $(BUILD)/kernel-profile: %: %.elf
	@objcopy --strip-all $< $@

-include $(KERNEL_OBJECTS:.o=.d) $(SVM_OBJECTS:.o=.d)

# An image of the prerequisites: the tool, the kernel, the control domain, the device model, then the rest.
MAKE_IMAGE = echo "  iso     $@" && node $< -o $@
HOST_PARTS := $(BUILD)/tools/make-image.cjs $(BUILD)/kernel $(BUILD)/control.bin $(BUILD)/device-model.bin

# ---- Components: build/NAME.bin and the generated ABI in control/gen --------------------------

.PHONY: abi
abi:
-include control/native/component.mk
-include test/guest/guests.mk
-include test/boot/stress/stress.mk
-include test/bench/bench.mk

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
$(BUILD)/tools/extract-vmlinux.cjs: ENTRY = boot/images/extract-vmlinux.ts
$(BUILD)/tools/make-image.cjs: ENTRY = boot/images/make-image.ts
$(BUILD)/tools/make-spec.cjs: ENTRY = boot/images/make-spec.ts
$(BUILD)/tools/%.cjs: $(HOST_SOURCES) | abi
	@echo "  esbuild $@"
	@$(ESBUILD) $(ENTRY) --outfile=$@

$(BUILD)/plinth.cjs: control/cli/main.ts $(HOST_SOURCES) | abi
	@echo "  esbuild $@"
	@$(ESBUILD) $< --minify --banner:js='#!/usr/bin/env node' --outfile=$@
	@chmod +x $@

# Kernels that panic when a domain ends: test/boot/panic.test.ts.
$(BUILD)/panic/other.o: boot/other.S $(BUILD)/panic/kernel-svm.bin
	@gcc $(KERNEL_FLAGS) -Wa,-I$(@D) -c $< -o $@

PANIC_PARTS := $(BUILD)/obj/test/boot/panic.c.o kernel/kernel.ld
$(BUILD)/panic/kernel-svm.elf: LINK_AT := --defsym IMAGE=0x200000
$(BUILD)/panic/kernel-svm.elf: $(SVM_OBJECTS) $(PANIC_PARTS)
$(BUILD)/panic/kernel.elf: $(filter-out %/other.S.o,$(KERNEL_OBJECTS)) $(BUILD)/panic/other.o $(PANIC_PARTS)
$(BUILD)/panic/kernel.elf $(BUILD)/panic/kernel-svm.elf:
	@mkdir -p $(@D)
	@echo "  ld      $@"
	@$(LINK_KERNEL) --wrap=domain_destroy -o $@ $(filter %.o,$^)

# ---- Guest images and the boot image ----------------------------------------------------------

$(BUILD)/guest/linux $(BUILD)/guest/busybox $(BUILD)/guest/e2fsck $(BUILD)/guest/modules &: boot/images/fetch-guest.sh
	@boot/images/fetch-guest.sh .cache $(BUILD)/guest

$(BUILD)/guest/linux-generic: boot/images/fetch-package.sh
	@boot/images/fetch-package.sh .cache linux-image-amd64 './boot/vmlinuz-*' $@

$(BUILD)/guest/vmlinux-generic: $(BUILD)/tools/extract-vmlinux.cjs $(BUILD)/guest/linux-generic
	@echo "  unpack  $@"
	@node $^ $@

$(BUILD)/guest/vmlinux: $(BUILD)/tools/extract-vmlinux.cjs $(BUILD)/guest/linux
	@echo "  unpack  $@"
	@node $^ $@

$(BUILD)/guest/memtest-%: boot/images/fetch-package.sh
	@boot/images/fetch-package.sh .cache memtest86+ './boot/memtest86+$*.bin' $@

# Every guest listens to its power button.
BUTTON := $(BUILD)/guest/modules/button.ko $(BUILD)/guest/modules/evdev.ko
$(BUILD)/guest/initrd.cpio: $(BUILD)/tools/make-initrd.cjs $(BUILD)/guest/busybox $(BUILD)/guest/modules \
		$(wildcard boot/images/guest/*)
	@echo "  initrd  $@"
	@node $< $(BUILD)/guest/busybox boot/images/guest $@ $(BUTTON)

$(BUILD)/guest/initrd-virtio.cpio: $(BUILD)/tools/make-initrd.cjs $(BUILD)/guest/busybox $(BUILD)/guest/modules \
		$(BUILD)/guest/e2fsck $(wildcard boot/images/guest/*)
	@echo "  initrd  $@"
	@node $< $(BUILD)/guest/busybox boot/images/guest $@ $(BUILD)/guest/modules/*.ko $(BUILD)/guest/e2fsck

$(BUILD)/spec.cbor: $(BUILD)/tools/make-spec.cjs boot/images/demo.json
	@echo "  spec    $@"
	@node $< boot/images/demo.json $@

$(BUILD)/plinth.iso: $(HOST_PARTS) $(BUILD)/spec.cbor $(BUILD)/guest/linux $(BUILD)/guest/initrd.cpio
	@$(MAKE_IMAGE) $(filter-out $<,$^)

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

$(BUILD)/guest/seabios: boot/images/fetch-package.sh
	@$< .cache seabios ./usr/share/seabios/bios-256k.bin $@

$(BUILD)/guest/ovmf: boot/images/fetch-package.sh
	@$< .cache ovmf ./usr/share/ovmf/OVMF.fd $@

$(BUILD)/guest/grub-disk: boot/images/make-disk.sh test/boot/grub-disk.cfg $(BUILD)/guest/linux $(BUILD)/guest/initrd-virtio.cpio
	@echo "  disk    $@"
	@boot/images/make-disk.sh $@ $(filter-out $<,$^)

$(BUILD)/firmware.iso: $(HOST_PARTS) $(BUILD)/guest/seabios $(BUILD)/guest/ovmf $(BUILD)/guest/grub-disk
	@$(MAKE_IMAGE) $(filter-out $<,$^)

$(BUILD)/disk.iso: $(HOST_PARTS) $(BUILD)/guest/linux $(BUILD)/guest/initrd-virtio.cpio $(BUILD)/guest/disk.img
	@$(MAKE_IMAGE) $(filter-out $<,$^)

$(BUILD)/starts.iso: $(HOST_PARTS) $(BUILD)/guest/vmlinux $(BUILD)/guest/vmlinux-generic \
		$(BUILD)/guest/initrd.cpio $(BUILD)/guest-tests/starts $(BUILD)/guest/memtest-x64 $(BUILD)/guest/memtest-ia32
	@$(MAKE_IMAGE) $(filter-out $<,$^)

$(BUILD)/panic.iso: $(BUILD)/tools/make-image.cjs $(BUILD)/panic/kernel $(BUILD)/control.bin \
		$(BUILD)/device-model.bin $(BUILD)/spec.cbor $(BUILD)/guest/linux $(BUILD)/guest/initrd.cpio
	@$(MAKE_IMAGE) $(filter-out $<,$^)

$(BUILD)/bad-input.iso: $(HOST_PARTS) $(BUILD)/guest/broken-spec $(BUILD)/guest/linux $(BUILD)/guest/initrd.cpio \
		$(BUILD)/guest/truncated
	@$(MAKE_IMAGE) $(patsubst %/broken-spec,spec=%/broken-spec,$(filter-out $<,$^))
