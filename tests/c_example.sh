#!/bin/sh
# examples/c as a user builds it, at two batch sizes of one object, in C and in C++ where there is a compiler.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
target/release/graphc compile tests/golden/mlp/saved_model -o "$folder/mlp.o"
cc -Wall -Wextra -Werror -O1 -I"$folder" examples/c/main.c "$folder/mlp.o" target/release/libgraphc_rt.a -lm -lpthread -ldl -o "$folder/demo"
"$folder/demo" 1
"$folder/demo" 33 | tail -n 1
echo "ok      c example"
