#!/bin/sh
# The command line with MLIR in it, for machines that have glibc and a GPU's driver and nothing else: C++'s library and those of compression
# are linked in. Says what it needs and how small it packs; more than 64 MB is an error.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
graphc=$target/release/graphc
most=64000000

# Found before the shared libraries of these names.
archives=$target/archives
mkdir -p "$archives"
for name in stdc++ z zstd; do
    ln -sf "$(cc -print-file-name=lib$name.a)" "$archives/lib$name.a"
done
ln -sf "$(cc -print-file-name=libgcc_eh.a)" "$archives/libgcc_s.a"

cargo rustc --release --package graphc --features gpu --bin graphc --quiet -- -L "native=$archives" -C link-arg=-Wl,--icf=all
needs=$(ldd "$graphc" | awk '{ print $1 }' | grep -v -e '^linux-vdso' -e '^/lib64/ld-' || true)
for library in $needs; do
    case $library in
        libc.so.* | libm.so.* | libpthread.so.* | libdl.so.*) ;;
        *)
            echo "$graphc needs $library, which is not glibc's" >&2
            exit 1
            ;;
    esac
done
plain=$(wc -c <"$graphc")
packed=$(xz -3 --threads=2 --stdout "$graphc" | wc -c)
echo "graphc with MLIR: needs $(echo $needs); $((plain / 1000000)) MB, $((packed / 1000000)) MB as xz"
[ "$packed" -lt "$most" ] || {
    echo "packs to more than $((most / 1000000)) MB" >&2
    exit 1
}
