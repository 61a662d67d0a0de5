#!/bin/sh
# Fetches one file of one Debian package through apt, without installing it; downloads are kept in CACHE/NAME.
# usage: fetch-package.sh CACHE PACKAGE PATTERN OUT    PATTERN is of the path in the package: './boot/vmlinuz-*'
# A package without files of its own stands for the first one that it depends on (linux-image-amd64).
set -eu

kept=$1/$2
package=$2
pattern=$3
out=$4
mkdir -p "$1" "$(dirname "$out")"

say() { echo "fetch: $*" >&2; }

find_name() {
    name=$package
    case $package in
    linux-image-*) name=$(apt-cache depends "$package" 2>/dev/null | awk '/Depends:/ { print $2; exit }') ;;
    esac
    [ -n "$name" ] && apt-cache show "$name" >/dev/null 2>&1
}

# One at a time: two targets may want the same package, and apt has one lock.
exec 9>"$1/fetch.lock"
flock 9

if ! ls "$kept"/*.deb >/dev/null 2>&1; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    find_name || { say "refreshing the package lists"; $as_root apt-get update -q >&2; find_name; } || {
        say "apt knows no $package; next: check that Debian's main archive is among apt's sources"
        exit 1
    }
    say "downloading $name"
    partial=$kept.partial
    rm -rf "$partial" "$kept"
    mkdir -p "$partial"
    # apt drops its rights to fetch, which fails in a private directory with a warning only: keep quiet.
    download() { (cd "$partial" && apt-get download -q "$name") >"$kept.log" 2>&1; }
    download || { $as_root apt-get update -q >&2 && find_name && download; } || {
        cat "$kept.log" >&2
        say "the download of $name failed; next: check the network, then repeat"
        exit 1
    }
    mv "$partial" "$kept"
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
dpkg-deb --fsys-tarfile "$kept"/*.deb | tar -x -C "$tree" --wildcards "$pattern"
cp $(find "$tree" -type f) "$out"
touch "$out"
