#!/bin/sh
# GPU code, built and run: on the first Vulkan device, which without a GPU is Mesa's driver in software, and through CUDA on a library that stands in
# for NVIDIA's driver and runs PTX. Installs MLIR, Mesa's driver and tools where they are missing (Debian).
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
graphc=$target/release/graphc
golden=tests/golden

packages=
need() { [ -e "$1" ] || packages="$packages $2"; }
need /usr/lib/llvm-22/lib/libMLIRIR.a libmlir-22-dev
need /usr/lib/llvm-22/lib/libLLVMCore.a llvm-22-dev
need /usr/lib/llvm-22/lib/libPolly.a libpolly-22-dev
need /usr/lib/llvm-22/lib/libclang-22.so.1 libclang1-22
need /usr/lib/llvm-22/lib/clang/22/include/stddef.h libclang-common-22-dev
need /usr/include/zstd.h libzstd-dev
need /usr/include/zlib.h zlib1g-dev
need /usr/bin/g++ g++
need /usr/bin/spirv-val spirv-tools
need /usr/bin/xz xz-utils
[ -e /usr/lib/"$(uname -m)"-linux-gnu/libvulkan.so.1 ] || packages="$packages libvulkan1"
[ -n "$(ls /usr/share/vulkan/icd.d 2>/dev/null)" ] || packages="$packages mesa-vulkan-drivers"
if [ -n "$packages" ]; then
    sudo=$(command -v sudo || true)
    echo "installing$packages"
    # shellcheck disable=SC2086
    { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } >/dev/null 2>&1 || {
        echo "apt-get could not install$packages, which GPU code needs" >&2
        exit 1
    }
fi

# One choice of packages and features for all, so that what they share is built once.
gpu="--release --quiet --package graphc --package graphc-gpu --package conformance --features graphc/gpu,graphc-gpu/mlir,conformance/gpu"
# shellcheck disable=SC2086
{
    if cargo clippy --version >/dev/null 2>&1; then cargo clippy $gpu --all-targets -- -D warnings; fi
    RUSTDOCFLAGS="-D warnings" cargo doc $gpu --no-deps
    cargo test $gpu --lib --test cuda --test device --test devices
    # The same cases through CUDA; the tests before have made the stand-in. One GPU beside Vulkan's, then two of CUDA, with a way between them and without.
    standin=$(cd "$target/tmp/standin" && pwd)
    LD_LIBRARY_PATH=$standin cargo test $gpu --test device --test devices
    for settings in devices=2 devices=2,peers=0; do
        LD_LIBRARY_PATH=$standin GRAPHC_STANDIN=$settings cargo test $gpu --test devices
    done
    cargo build $gpu
}
"$graphc" devices
for model in "$golden"/*/saved_model; do
    # One of them asks for two GPUs.
    "$graphc" check "$model" "${model%saved_model}"io_*.npz --backend gpu --soft-placement
done
"$graphc" check $golden/words/saved_model $golden/words/io_*.npz --backend gpu --place-by device
"$graphc" check $golden/split/saved_model $golden/split/io_*.npz --backend gpu --lossy-transfers --rtol 0.02
# Each launch by the device's own clock.
"$graphc" bench $golden/transformer/saved_model --device GPU:0 --profile --seconds 0.1 | grep -q gemm_f32
corpus=../shared/corpus/public
if [ -d $corpus ]; then
    "$target"/release/conformance tests/conformance/cases $corpus --backend gpu --sample 100 --passing tests/conformance/passing.txt
fi
for name in mlp small_cnn transformer recurrent quantised split words rounds; do
    LD_LIBRARY_PATH=$standin "$graphc" check $golden/$name/saved_model $golden/$name/io_*.npz --backend gpu
done
# Packages: made without a device, run without MLIR.
packages=$target/gpu-packages
mkdir -p "$packages"
for name in mlp small_cnn transformer recurrent words; do
    "$graphc" compile $golden/$name/saved_model -o "$packages/$name.graphc" --device GPU:0 --gpu-targets sm_80,sm_90a,spirv,spirv-basic
done
for precision in tf32 bf16; do
    "$graphc" compile $golden/mlp/saved_model -o "$packages/$precision.graphc" --device GPU:0 --precision $precision
done
tests/portable.sh
# Of all that is built, only what knows of GPUs is built again.
cargo build --release --package graphc --features gpu-driver --quiet
for name in mlp small_cnn transformer recurrent words; do
    "$graphc" check "$packages/$name.graphc" $golden/$name/io_*.npz
    "$graphc" check "$packages/$name.graphc" $golden/$name/io_*.npz --backend gpu
    LD_LIBRARY_PATH=$standin "$graphc" check "$packages/$name.graphc" $golden/$name/io_*.npz --backend gpu
done
for precision in tf32 bf16; do
    "$graphc" check "$packages/$precision.graphc" $golden/mlp/io_*.npz --backend gpu --rtol 0.02
    LD_LIBRARY_PATH=$standin "$graphc" check "$packages/$precision.graphc" $golden/mlp/io_*.npz --backend gpu --rtol 0.02
done
# The build of the CPU is what others measure and test.
cargo build --release --package graphc --package conformance --quiet
