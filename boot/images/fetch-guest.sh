#!/bin/sh
# Fetches Debian's stock cloud kernel, static BusyBox and e2fsck through apt, without installing any.
# usage: fetch-guest.sh CACHE OUT    leaves OUT/linux (the vmlinuz), OUT/busybox, OUT/e2fsck, OUT/modules/*.ko
set -eu

cache=$1
out=$2
mkdir -p "$cache/debs" "$out"

say() { echo "guest: $*" >&2; }

# The metapackage names the kernel package of the day; its ABI number changes.
find_packages() {
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }')
    [ -n "$kernel" ] && apt-cache show busybox-static e2fsck-static >/dev/null 2>&1
}

cached() {
    set -- "$cache"/debs/linux-image-*-cloud-amd64_*.deb
    [ -e "$1" ] || return 1
    set -- "$cache"/debs/busybox-static_*.deb
    [ -e "$1" ] || return 1
    set -- "$cache"/debs/e2fsck-static_*.deb
    [ -e "$1" ]
}

if ! cached; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    find_packages || { say "refreshing the package lists"; $as_root apt-get update -q >&2; find_packages; } || {
        say "apt knows no linux-image-cloud-amd64, busybox-static or e2fsck-static"
        say "next: check that Debian's main archive is among apt's sources"
        exit 1
    }
    say "downloading $kernel, busybox-static and e2fsck-static"
    partial="$cache/partial"
    rm -rf "$partial"
    mkdir -p "$partial"
    # apt drops its rights to fetch, which fails in a private directory with a warning only: keep quiet.
    download() { (cd "$partial" && apt-get download -q "$kernel" busybox-static e2fsck-static) >"$cache/apt.log" 2>&1; }
    download || { $as_root apt-get update -q >&2 && find_packages && download; } || {
        cat "$cache/apt.log" >&2
        say "the download failed; next: check the network, then repeat"
        exit 1
    }
    rm -f "$cache"/debs/*.deb # the modules must be those of the kernel
    mv "$partial"/*.deb "$cache/debs/"
    rmdir "$partial"
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
for deb in "$cache"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --wildcards './boot/vmlinuz-*' './bin/busybox' './usr/bin/busybox' \
        './sbin/e2fsck.static' './usr/sbin/e2fsck.static' '*/drivers/virtio/*' '*/virtio*.ko*' '*failover.ko*' \
        '*/scsi_common.ko*' '*/scsi_mod.ko*' '*/cdrom.ko*' '*/sr_mod.ko*' '*/isofs.ko*' \
        '*/drivers/acpi/button.ko*' '*/drivers/input/evdev.ko*' \
        2>/dev/null || true
done
busybox="$tree/bin/busybox"
[ -e "$busybox" ] || busybox="$tree/usr/bin/busybox"
cp "$tree"/boot/vmlinuz-* "$out/linux"
cp "$busybox" "$out/busybox"
for e2fsck in "$tree/sbin/e2fsck.static" "$tree/usr/sbin/e2fsck.static"; do
    [ ! -e "$e2fsck" ] || cp "$e2fsck" "$out/e2fsck"
done
rm -rf "$out/modules"
mkdir "$out/modules"
for name in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk virtio-rng \
    virtio_console virtio_balloon failover net_failover virtio_net scsi_common scsi_mod virtio_scsi cdrom sr_mod isofs \
    button evdev; do
    found=$(find "$tree" -name "$name.ko*")
    cp "$found" "$out/modules/"
    case $found in *.xz) xz -d "$out/modules/$name.ko.xz" ;; esac
done
touch "$out/linux" "$out/busybox" "$out/e2fsck" "$out/modules"
say "$(basename "$tree"/boot/vmlinuz-*), $(basename "$cache"/debs/busybox-static_*.deb .deb)"
