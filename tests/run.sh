#!/bin/sh
# Runs every check of the project, cheap ones first: what CI runs. Installs a C linker if there is none, and emulators of other architectures (Debian).
# With ../shared/models and ../shared/corpus beside the checkout, their models and cases run too.
# One profile for all, so that nothing is built twice.
set -eu
cd "$(dirname "$0")/.."
release=${CARGO_TARGET_DIR:-target}/release

. tests/linker.sh

step() {
    printf '\n==> %s\n' "$*"
    "$@"
}

# conformance PATH...: cases; those that are listed as passing must pass.
conformance() {
    set -- "$@" --passing tests/conformance/passing.txt
    step "$release"/conformance "$@"
}

if cargo fmt --version >/dev/null 2>&1; then step cargo fmt --all --check; fi
if cargo clippy --version >/dev/null 2>&1; then step cargo clippy --release --workspace --all-targets --quiet -- -D warnings; fi
# The page of graphc-gpu is made with its feature, in tests/gpu.sh.
RUSTDOCFLAGS="-D warnings" step cargo doc --release --workspace --exclude graphc-gpu --no-deps --quiet
step cargo build --release --workspace --quiet
step cargo build --profile rt --package graphc-rt --no-default-features --quiet
step tests/aot.sh
step tests/models.sh
step tests/cross.sh
step cargo test --release --workspace --quiet
conformance tests/conformance/cases
corpus=../shared/corpus
if [ -d $corpus/public ]; then
    conformance $corpus/public
    conformance $corpus/tf_testdata/saved_model_goldens.tfcases.gz
    # All through objects; a sample through the interpreter.
    conformance $corpus/public --backend interp --sample 20
    conformance $corpus/public --backend object
fi
step tests/gpu.sh
printf '\nall checks passed\n'
