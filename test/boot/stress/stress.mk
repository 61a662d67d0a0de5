# stress.iso: stock Linux with a disk and the program that stresses it, for the smp and stress tests.

$(BUILD)/guest/stress: test/boot/stress/stress.c
	@mkdir -p $(@D)
	@gcc -O2 -static -pthread -Wall -Wextra -Werror -o $@ $<

$(BUILD)/guest/initrd-stress.cpio: $(BUILD)/tools/make-initrd.cjs $(BUILD)/guest/busybox $(BUILD)/guest/modules \
		$(BUILD)/guest/e2fsck $(BUILD)/guest/stress $(wildcard boot/images/guest/*)
	@echo "  initrd  $@"
	@node $< $(BUILD)/guest/busybox boot/images/guest $@ $(BUILD)/guest/modules/*.ko $(BUILD)/guest/e2fsck $(BUILD)/guest/stress

$(BUILD)/stress.iso: $(HOST_PARTS) $(BUILD)/guest/linux $(BUILD)/guest/initrd-stress.cpio $(BUILD)/guest/disk.img
	@$(MAKE_IMAGE) $(patsubst %/initrd-stress.cpio,initrd=%/initrd-stress.cpio,$(filter-out $<,$^))

do-test do-test-long: $(BUILD)/stress.iso $(BUILD)/guests.iso
