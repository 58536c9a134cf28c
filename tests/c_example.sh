#!/bin/sh
# examples/c as a user builds it, at two batch sizes of one object; and the header in C++, where there is a compiler.
set -eu
cd "$(dirname "$0")/.."
release=${CARGO_TARGET_DIR:-target}/release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$release"/graphc compile tests/golden/mlp/saved_model -o "$folder/mlp.o"
cc -Wall -Wextra -Werror -O1 -I"$folder" examples/c/main.c "$folder/mlp.o" "$release"/libgraphc_rt.a -lm -lpthread -ldl -o "$folder/demo"
"$folder/demo" 1
"$folder/demo" 33 | tail -n 1
if command -v c++ >/dev/null 2>&1; then
    c++ -Wall -Wextra -Werror -fsyntax-only -x c++ "$folder/mlp.h"
fi
echo "ok      c example"
