# What `make bench` boots beside the images of the tests.

do-bench: $(BUILD)/bench.iso $(BUILD)/bench-plain.iso $(BUILD)/profile.iso $(BUILD)/bare.iso $(BUILD)/guests.iso $(BUILD)/guests-apicv-off.iso

$(BUILD)/guest/bench-init: test/bench/init.c
	@mkdir -p $(@D)
	@gcc -O2 -static -Wall -Wextra -Werror -o $@ $<

# The usual initrd, and the program that is its first process in sbin/bench.
$(BUILD)/guest/initrd-bench.cpio: $(BUILD)/tools/make-initrd.cjs $(BUILD)/guest/busybox $(BUILD)/guest/bench-init \
		$(wildcard boot/images/guest/*)
	@echo "  initrd  $@"
	@rm -rf $@.scripts && cp -r boot/images/guest $@.scripts && cp $(BUILD)/guest/bench-init $@.scripts/bench
	@node $< $(BUILD)/guest/busybox $@.scripts $@

BENCH_FILES := $(BUILD)/control.bin $(BUILD)/device-model.bin $(BUILD)/guest/linux $(BUILD)/guest/initrd-bench.cpio \
	$(GUEST_OUT)/bench $(GUEST_OUT)/virtio
MAKE_BENCH_IMAGE = $(MAKE_IMAGE) $(patsubst %/initrd-bench.cpio,initrd=%/initrd-bench.cpio,$(filter-out $<,$^))

$(BUILD)/bench.iso: $(BUILD)/tools/make-image.cjs $(BUILD)/kernel $(BENCH_FILES)
	@$(MAKE_BENCH_IMAGE) --options apicv=on

# For stock Linux, which Bochs's virtual-interrupt delivery disturbs.
$(BUILD)/bench-plain.iso: $(BUILD)/tools/make-image.cjs $(BUILD)/kernel $(BENCH_FILES)
	@$(MAKE_BENCH_IMAGE)

# A kernel that counts where instructions go: profile.c.
$(BUILD)/obj/test/bench/profile.c.o: KERNEL_FLAGS += -fomit-frame-pointer
-include $(BUILD)/obj/test/bench/profile.c.d

$(BUILD)/kernel-profile.elf: $(KERNEL_OBJECTS) $(BUILD)/obj/test/bench/profile.c.o kernel/kernel.ld
	@echo "  ld      $@"
	@$(LINK_KERNEL) --wrap=guest_enter --wrap=exit_handle --wrap=domain_create --wrap=serial_put -o $@ $(filter %.o,$^)

$(BUILD)/profile.iso: $(BUILD)/tools/make-image.cjs $(BUILD)/kernel-profile $(BENCH_FILES)
	@$(MAKE_BENCH_IMAGE)

# The same Linux without a hypervisor.
$(BUILD)/bare.iso: boot/images/make-disk.sh test/bench/bare.cfg $(BUILD)/guest/linux $(BUILD)/guest/initrd-bench.cpio
	@echo "  iso     $@"
	@boot/images/make-disk.sh $@ $(filter-out $<,$^)
