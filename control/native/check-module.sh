#!/bin/sh
# Refuses a component module that imports anything but plinth functions or computes with floats.
# Usage: check-module.sh MODULE.wasm ENTRY
bin=node_modules/.bin
foreign=$($bin/wasm-objdump -x -j Import "$1" | grep -e '<-' | grep -v -e '<- plinth\.')
if [ -n "$foreign" ]; then
    echo "$2: a component may import only \"plinth\" functions (control/lib/binding.ts), but it imports:" >&2
    echo "$foreign" >&2
    exit 1
fi
floats=$($bin/wasm-objdump -d "$1" | awk '/^[0-9a-f]+ func/ { f = $3 } / f(32|64)\./ { print f }' | sort -u)
if [ -n "$floats" ]; then
    echo "$2: components use integers only, but there is floating point in:" >&2
    echo "$floats" >&2
    exit 1
fi
