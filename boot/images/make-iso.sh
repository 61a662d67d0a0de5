#!/bin/sh
# Makes the hybrid BIOS and UEFI image with GRUB; it boots from CD, from a USB stick, and in the rigs.
# usage: make-iso.sh OUT.iso GRUB.cfg FILE...    each FILE lands in /boot under its own name
set -eu

out=$1
config=$2
shift 2

# What the configuration uses, and what finds the file system on the many kinds of disk.
modules="multiboot2 normal serial terminal echo configfile search search_fs_file search_fs_uuid
    iso9660 part_msdos part_gpt fat acpi"

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/boot/grub"
for file in "$@"; do
    case $file in
    *.elf) objcopy --strip-all "$file" "$tree/boot/$(basename "$file")" ;;
    *) cp "$file" "$tree/boot/" ;;
    esac
done
cp "$config" "$tree/boot/grub/grub.cfg"

if ! grub-mkrescue --compress=no --install-modules="$modules" --locales= --themes= --fonts= \
    -o "$out" "$tree" >"$out.log" 2>&1; then
    cat "$out.log" >&2
    exit 1
fi
