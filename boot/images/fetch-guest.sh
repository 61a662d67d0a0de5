#!/bin/sh
# Fetches Debian's stock cloud kernel and static BusyBox through apt, without installing either.
# usage: fetch-guest.sh CACHE OUT    leaves OUT/linux (the vmlinuz) and OUT/busybox
set -eu

cache=$1
out=$2
mkdir -p "$cache/debs" "$out"

say() { echo "guest: $*" >&2; }

# The metapackage names the kernel package of the day; its ABI number changes.
find_packages() {
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }')
    [ -n "$kernel" ] && apt-cache show busybox-static >/dev/null 2>&1
}

cached() {
    set -- "$cache"/debs/linux-image-*-cloud-amd64_*.deb
    [ -e "$1" ] || return 1
    set -- "$cache"/debs/busybox-static_*.deb
    [ -e "$1" ]
}

if ! cached; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    find_packages || { say "refreshing the package lists"; $as_root apt-get update -q >&2; find_packages; } || {
        say "apt knows no linux-image-cloud-amd64 or busybox-static"
        say "next: check that Debian's main archive is among apt's sources"
        exit 1
    }
    say "downloading $kernel and busybox-static"
    partial="$cache/partial"
    rm -rf "$partial"
    mkdir -p "$partial"
    # apt drops its rights to fetch, which fails in a private directory with a warning only: keep quiet.
    download() { (cd "$partial" && apt-get download -q "$kernel" busybox-static) >"$cache/apt.log" 2>&1; }
    download || { $as_root apt-get update -q >&2 && find_packages && download; } || {
        cat "$cache/apt.log" >&2
        say "the download failed; next: check the network, then repeat"
        exit 1
    }
    mv "$partial"/*.deb "$cache/debs/"
    rmdir "$partial"
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
for deb in "$cache"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --wildcards './boot/vmlinuz-*' './bin/busybox' './usr/bin/busybox' \
        2>/dev/null || true
done
busybox="$tree/bin/busybox"
[ -e "$busybox" ] || busybox="$tree/usr/bin/busybox"
cp "$tree"/boot/vmlinuz-* "$out/linux"
cp "$busybox" "$out/busybox"
touch "$out/linux" "$out/busybox"
say "$(basename "$tree"/boot/vmlinuz-*), $(basename "$cache"/debs/busybox-static_*.deb .deb)"
