#!/bin/sh
# Other architectures through an emulator: the tests of the kernels; every elementwise op and the golden models as programs linked by a C compiler.
# On Debian it installs what is missing, where it may.
set -eu
cd "$(dirname "$0")/.."
. tests/linker.sh

arm=aarch64-unknown-linux-gnu
riscv=riscv64gc-unknown-linux-gnu
missing=
for tool in qemu-aarch64 qemu-riscv64 aarch64-linux-gnu-gcc riscv64-linux-gnu-gcc; do
    command -v $tool >/dev/null 2>&1 || missing=yes
done
if [ -n "$missing" ]; then
    sudo=$(command -v sudo || true)
    echo 'installing qemu-user and the C compilers of other architectures'
    { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends qemu-user \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-riscv64-linux-gnu libc6-dev-riscv64-cross; } >/dev/null 2>&1 || {
        echo 'skipped: there is no emulator of other architectures (qemu-user) or no C compiler for them, and apt-get could not install them'
        exit 0
    }
fi
if ! { rustup target add $arm $riscv >/dev/null 2>&1 || [ -d "$(rustc --print sysroot)/lib/rustlib/$riscv" ]; }; then
    echo 'skipped: there is no Rust library for other architectures (rustup target add)'
    exit 0
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu'
export CARGO_TARGET_RISCV64GC_UNKNOWN_LINUX_GNU_LINKER=riscv64-linux-gnu-gcc

cargo build --profile rt --quiet -p graphc-rt --no-default-features
for triple in $arm $riscv; do
    cargo build --profile rt --quiet -p graphc-rt --no-default-features --target $triple
done
# What takes minutes in an emulator is left to this machine's own tiers.
cargo test --release --quiet -p graphc-kernels --lib --tests --target $arm -- --skip of_real_shapes
cargo test --release --quiet -p graphc-cpu --test jit emulated -- --ignored
cargo test --release --quiet --test integration cross -- --ignored --nocapture
# A model of strings, which runs in stages.
cargo build --release --quiet -p graphc-rt-full --target $arm
words=tests/golden/words
program=$(mktemp)
${CARGO_TARGET_DIR:-target}/release/graphc compile $words/saved_model -o "$program" --input $words/io_1.npz --target $arm >/dev/null
qemu-aarch64 -L /usr/aarch64-linux-gnu "$program" --input $words/io_1.npz | grep '"blue", "green", "red", "red", "none of them"'
rm -f "$program" "$program".*
