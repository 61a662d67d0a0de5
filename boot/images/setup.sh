#!/bin/sh
# Checks that the machine has what the build, the tests and the rigs need, and installs what is missing.
set -eu

packages="gcc libc6-dev binutils make bochs bochs-sdl bochsbios vgabios grub-common grub-pc-bin
    grub-efi-amd64-bin xorriso mtools e2fsprogs lz4 xz-utils qemu-system-x86 ovmf gdb"

say() { echo "setup: $*" >&2; }

# Node: any installation of version 18 or later will do, else Debian's.
node_major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
if [ "$node_major" -lt 18 ] || ! command -v npm >/dev/null; then
    packages="$packages nodejs npm"
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    missing=""
    for tool in gcc ld node npm grub-mkrescue xorriso mformat bochs qemu-system-x86_64 apt-get dpkg-deb; do
        command -v $tool >/dev/null || missing="$missing $tool"
    done
    [ -z "$missing" ] && exit 0
    say "not a Debian system, and these commands are missing:$missing"
    say "next: install what provides them (on Debian: $(echo $packages))"
    exit 1
fi

missing=""
for package in $packages; do
    case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed) ;;
    *) missing="$missing $package" ;;
    esac
done

if [ -n "$missing" ]; then
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "these Debian packages are missing, and there is no sudo to install them with:$missing"
            say "next, as root: apt-get update && apt-get install --no-install-recommends$missing"
            exit 1
        fi
        as_root="sudo"
    fi
    say "installing Debian packages:$missing"
    log=$(mktemp)
    install_missing() {
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
    }
    if ! install_missing >"$log" 2>&1 </dev/null; then
        say "refreshing the package lists"
        if ! { $as_root apt-get update && install_missing; } >"$log" 2>&1 </dev/null; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            say "could not install these Debian packages:$missing"
            say "next, as root: apt-get update && apt-get install --no-install-recommends$missing"
            exit 1
        fi
    fi
    rm -f "$log"
fi

# npm ci whenever the lock file is newer than what it installed.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    say "installing npm packages (npm ci)"
    if ! npm ci --loglevel=error >&2; then
        say "npm ci failed; next: check that npm reaches its registry, then run make setup"
        exit 1
    fi
    touch node_modules/.package-lock.json
fi
