#!/bin/sh
# The program as users get it, in target/dist/graphc: optimised as one piece, and linked twice. The second link puts the functions that ran
# while the first one compiled some models (under valgrind, which this installs on Debian) next to each other, so that a start reads a
# quarter of the pages. Takes some ten minutes. The linker that orders functions is Rust's own, which it has for x86-64 alone.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
graphc=$target/dist/graphc
names='profile.dist.strip="none"'

. tests/linker.sh

cargo build --profile dist --package graphc --bin graphc --config "$names"
if [ "$(rustc -vV | sed -n 's/^host: //p')" = x86_64-unknown-linux-gnu ]; then
    if ! command -v valgrind >/dev/null; then
        sudo=$(command -v sudo || true)
        { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valgrind; } >/dev/null 2>&1 || {
            echo "apt-get could not install valgrind, which tells which functions run" >&2
            exit 1
        }
    fi
    order=$target/dist/order
    rm -rf "$order" "$order".*
    mkdir -p "$order"
    # Twice each: a start from cold, and from the cache. Valgrind knows no AVX-512.
    for model in mlp small_cnn transformer recurrent words; do
        for start in cold cached; do
            GRAPHC_TIER=avx2 valgrind --tool=callgrind --demangle=no --callgrind-out-file="$order/$model.$start" \
                "$graphc" bench tests/golden/$model/saved_model --seconds 0.01 --cache "$order/cache" >/dev/null 2>&1
        done
    done
    # What most of them need comes first.
    for calls in "$order"/*.cold "$order"/*.cached; do
        sed -nE "s/^c?fn=\([0-9]+\) (_[RZ][^']*).*/\1/p" "$calls" | sort -u
    done | sort | uniq -c | sort -k1,1nr -k2 | awk '{ print $2 }' >"$order/functions"
    echo "$(wc -l <"$order/functions") functions run between a model and its first answer"
    # Cargo links again when the name changes.
    named=$order.$(cksum <"$order/functions" | cut -d ' ' -f 1)
    mv "$order/functions" "$named"
    cargo rustc --profile dist --package graphc --bin graphc --config "$names" -- \
        -C "link-arg=-Wl,--symbol-ordering-file=$(realpath "$named")" -C link-arg=-Wl,--no-warn-symbol-ordering
fi
# In the place of cargo's link to a file that keeps its names.
strip -o "$graphc.stripped" "$graphc"
mv "$graphc.stripped" "$graphc"
echo "$graphc: $(($(wc -c <"$graphc") / 1000000)) MB"
