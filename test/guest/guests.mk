# Builds the test guests, build/guest-tests/NAME for each folder test/guest/NAME, and the images that carry them:
# chips.iso those of devices, time.iso those about CPU time, isolation.iso those that attack, guests.iso the others.

GUEST_TESTS  := $(filter-out lib starts,$(notdir $(patsubst %/,%,$(wildcard test/guest/*/))))
GUEST_OUT    := $(BUILD)/guest-tests
GUEST_IMAGES := $(GUEST_TESTS:%=$(GUEST_OUT)/%)
CHIP_TESTS   := acpi ioapic pci pic pit reset rings rtc uart
CHIP_IMAGES  := $(CHIP_TESTS:%=$(GUEST_OUT)/%) $(GUEST_OUT)/ticker
TIME_TESTS   := busy jitter storm
TIME_IMAGES  := $(TIME_TESTS:%=$(GUEST_OUT)/%) $(GUEST_OUT)/ticker
FOE_TESTS    := busy loop memory reuse storm ticker
CPU_IMAGES   := $(filter-out $(CHIP_TESTS:%=$(GUEST_OUT)/%) $(TIME_TESTS:%=$(GUEST_OUT)/%) $(GUEST_OUT)/reuse,$(GUEST_IMAGES))
GUEST_FLAGS  := -std=gnu11 -O1 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pic -no-pie \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -Wall -Wextra -Werror \
	-iquote test/guest/lib
GUEST_LIB    := $(wildcard test/guest/lib/*.[cS])

.PHONY: guest-tests
guest-tests: $(GUEST_IMAGES)

$(GUEST_IMAGES): $(GUEST_OUT)/%: $(wildcard test/guest/*/*.c test/guest/*/*.S test/guest/lib/*) \
		test/guest/guests.mk
	@mkdir -p $(@D)
	@echo "  guest   $@"
	@gcc $(GUEST_FLAGS) -nostdlib -static -Wl,-T,test/guest/lib/guest.ld -Wl,--build-id=none \
		-Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -o $@.elf \
		$(GUEST_LIB) $(wildcard test/guest/$*/*.[cS])
	@objcopy -O binary $@.elf $@

# 32 bits, and not from the library: what it is given depends on how it starts.
$(GUEST_OUT)/starts: $(wildcard test/guest/starts/*) test/guest/guests.mk
	@mkdir -p $(@D)
	@echo "  guest   $@"
	@gcc $(filter-out -mno-red-zone,$(GUEST_FLAGS)) -m32 -fpie -nostdlib -static -Wl,-melf_i386 \
		-Wl,-T,test/guest/starts/starts.ld -Wl,--build-id=none -Wl,-z,noexecstack \
		-Wl,--no-warn-rwx-segments -o $@ $(filter %.S %.c,$^)

$(GUEST_OUT)/spec.cbor: $(BUILD)/tools/make-spec.cjs test/guest/spec.json
	@mkdir -p $(@D)
	@node $< test/guest/spec.json $@

$(BUILD)/guests.iso: $(CPU_IMAGES)
$(BUILD)/chips.iso: $(CHIP_IMAGES)
$(BUILD)/time.iso: $(TIME_IMAGES)
$(BUILD)/guests.iso $(BUILD)/chips.iso $(BUILD)/time.iso: $(HOST_PARTS) $(GUEST_OUT)/spec.cbor
	@$(MAKE_IMAGE) $(filter-out $<,$^)

# Other images of the control component: one that is as good, and one that traps on trial.
$(GUEST_OUT)/control-next: $(BUILD)/control.bin
	@mkdir -p $(@D)
	@{ cat $<; echo next; } > $@

$(BUILD)/upgrade.iso: $(HOST_PARTS) $(GUEST_OUT)/spec.cbor $(GUEST_OUT)/ticker $(GUEST_OUT)/control-next \
		$(BUILD)/components/image-late.bin
	@$(MAKE_IMAGE) $(filter-out $<,$^)

# A host with another image of the device model, which is as good.
$(GUEST_OUT)/model-next: $(BUILD)/device-model.bin
	@mkdir -p $(@D)
	@{ cat $<; echo next; } > $@

$(BUILD)/other-model.iso: $(filter-out %/device-model.bin,$(HOST_PARTS)) $(GUEST_OUT)/model-next $(GUEST_OUT)/spec.cbor
	@$(MAKE_IMAGE) $(patsubst %/model-next,device-model=%/model-next,$(filter-out $<,$^))

$(BUILD)/bad-entry.iso: $(filter-out %/device-model.bin,$(HOST_PARTS)) $(BUILD)/components/bad-entry.bin $(GUEST_OUT)/spec.cbor
	@$(MAKE_IMAGE) $(patsubst %/bad-entry.bin,device-model=%/bad-entry.bin,$(filter-out $<,$^))

# Guests that attack, and a device model that can.
$(BUILD)/isolation.iso: $(filter-out %/device-model.bin,$(HOST_PARTS)) $(BUILD)/components/hostile.bin $(GUEST_OUT)/spec.cbor \
		$(FOE_TESTS:%=$(GUEST_OUT)/%)
	@$(MAKE_IMAGE) $(patsubst %/hostile.bin,device-model=%/hostile.bin,$(filter-out $<,$^))

# The same with less and with more of APIC virtualization: guests-apicv-off.iso and so on.
$(BUILD)/guests-apicv-%.iso: $(HOST_PARTS) $(GUEST_OUT)/spec.cbor $(CPU_IMAGES)
	@$(MAKE_IMAGE) --options apicv=$* $(filter-out $<,$^)

do-test: $(BUILD)/guests-apicv-off.iso $(BUILD)/guests-apicv-registers.iso $(BUILD)/guests-apicv-on.iso
do-test: $(BUILD)/guests.iso $(BUILD)/chips.iso $(BUILD)/time.iso $(BUILD)/bad-entry.iso $(BUILD)/isolation.iso
do-test: $(BUILD)/upgrade.iso $(BUILD)/components/image-traps.bin
do-test-long: $(BUILD)/guests.iso $(BUILD)/isolation.iso $(BUILD)/upgrade.iso $(BUILD)/other-model.iso
