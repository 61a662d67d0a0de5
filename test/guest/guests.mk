# Builds the test guests, build/guest-tests/NAME for each folder test/guest/NAME, and guests.iso, which
# carries them all.

GUEST_TESTS  := $(filter-out lib,$(notdir $(patsubst %/,%,$(wildcard test/guest/*/))))
GUEST_OUT    := $(BUILD)/guest-tests
GUEST_IMAGES := $(GUEST_TESTS:%=$(GUEST_OUT)/%)
GUEST_FLAGS  := -std=gnu11 -O1 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pic -no-pie \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -Wall -Wextra -Werror \
	-iquote test/guest/lib
GUEST_LIB    := test/guest/lib/header.S test/guest/lib/runtime.c test/guest/lib/trap.c

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

$(GUEST_OUT)/spec.cbor: $(BUILD)/tools/make-spec.cjs test/guest/spec.json
	@mkdir -p $(@D)
	@node $< test/guest/spec.json $@

# GRUB's configuration names the modules in order: control, the device model, the rest.
GUEST_GRUB = sed '/^module2/d;/^boot/d' boot/images/grub.cfg > $@.cfg && \
	for file in $(1); do echo "module2 /boot/$$(basename $$file) $$(basename $$file .bin)"; done | \
	sed -e 's/ spec.cbor$$/ spec/' -e 's/ bad-entry$$/ device-model/' >> $@.cfg && echo boot >> $@.cfg

$(BUILD)/guests.iso: $(BUILD)/kernel.elf $(BUILD)/control.bin $(BUILD)/device-model.bin \
		$(GUEST_OUT)/spec.cbor $(GUEST_IMAGES) boot/images/make-iso.sh boot/images/grub.cfg
	@echo "  iso     $@"
	@$(call GUEST_GRUB,$(filter-out %.elf,$(filter $(BUILD)/%,$^)))
	@boot/images/make-iso.sh $@ $@.cfg $(filter $(BUILD)/%,$^)

$(BUILD)/bad-entry.iso: $(BUILD)/kernel.elf $(BUILD)/control.bin $(BUILD)/components/bad-entry.bin \
		$(GUEST_OUT)/spec.cbor boot/images/make-iso.sh boot/images/grub.cfg
	@echo "  iso     $@"
	@$(call GUEST_GRUB,$(filter-out %.elf,$(filter $(BUILD)/%,$^)))
	@boot/images/make-iso.sh $@ $@.cfg $(filter $(BUILD)/%,$^)

do-test: $(BUILD)/guests.iso $(BUILD)/bad-entry.iso
