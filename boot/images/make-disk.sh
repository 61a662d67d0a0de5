#!/bin/sh
# Makes a disk image with GRUB for BIOS and UEFI that boots a kernel and an initrd.
# usage: make-disk.sh OUT GRUB.cfg KERNEL INITRD    they land in /boot under their own names
set -eu

out=$1
modules="linux normal serial terminal echo search search_fs_file iso9660 fat halt part_acorn part_amiga part_apple
    part_bsd part_dfly part_dvh part_gpt part_msdos part_plan part_sun part_sunpc"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/boot/grub"
cp "$2" "$tree/boot/grub/grub.cfg"
cp "$3" "$4" "$tree/boot/"
if ! grub-mkrescue --compress=no --locales= --themes= --fonts= -o "$out" \
    --install-modules="$modules" "$tree" >"$out.log" 2>&1; then
    cat "$out.log" >&2
    exit 1
fi
