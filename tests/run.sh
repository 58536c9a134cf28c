#!/bin/sh
# Runs every check of the project: what CI runs. Installs a C linker if there is none (Debian).
# With ../shared/models and ../shared/corpus beside the checkout, their models and cases run too.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cc >/dev/null 2>&1; then
    sudo=$(command -v sudo || true)
    $sudo apt-get update -qq && $sudo apt-get install -y -qq gcc libc6-dev
fi

step() { printf '\n==> %s\n' "$*"; "$@"; }

if cargo fmt --version >/dev/null 2>&1; then step cargo fmt --all --check; fi
if cargo clippy --version >/dev/null 2>&1; then step cargo clippy --release --workspace --all-targets -- -D warnings; fi
RUSTDOCFLAGS="-D warnings" step cargo doc --release --workspace --no-deps --quiet
step cargo build --release --workspace
step cargo test --release --workspace
step tests/models.sh
step tests/c_example.sh
printf '\nall checks passed\n'
