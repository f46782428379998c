#!/bin/sh
# Builds the guests of the benchmarks from their sources. Needs .venv (Zig), and for the component the npm peers
# that a full run of scripts/bench installs.
set -eu
cd "$(dirname "$0")"
root=../..
cache=${XDG_CACHE_HOME:-$HOME/.cache}/starlette-wasm
cc="$root/.venv/bin/python -m ziglang cc"
for name in job stdio body list rows mandelbrot sha256; do
    stack=131072
    [ $name = job ] && stack=16384 # as little as it needs: what a guest's memory has is cleared after each request
    $cc -target wasm32-wasi -O2 -s -Wall -Wl,-z,stack-size=$stack -I "$root/sdk/c" -o "$name.wasm" "$name.c"
done
core=$(mktemp)
trap 'rm -f "$core"' EXIT
$cc -target wasm32-freestanding -O2 -s -nostdlib -Wl,--no-entry -o "$core" wasi-http/job.c
node wasi-http/component.mjs "$cache/bench/node/node_modules/@bytecodealliance/jco" \
    "$core" wasi-http/job.wit wasi-http/job.component.wasm
chmod 644 ./*.wasm wasi-http/*.wasm
ls -l ./*.wasm wasi-http/*.wasm
