#!/bin/sh
# Everything that `graphc compile` writes, used as its users do: objects from C, static libraries from C++, shared libraries from Python,
# programs, packages. What needs a tool that is not there is said to be skipped.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
target=${CARGO_TARGET_DIR:-target}
graphc=$target/release/graphc
case $graphc in /*) ;; *) graphc=$top/$graphc ;; esac
case $target in /*) ;; *) target=$top/$target ;; esac
rt=$target/rt/libgraphc_rt.a
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
golden=$top/tests/golden

have() { command -v "$1" >/dev/null 2>&1; }
ok() { printf 'ok      %s\n' "$1"; }
compile() { "$graphc" compile "$@" >/dev/null; }

# An object and its headers, in C, and in valgrind where there is one, which has no AVX-512.
compile "$golden"/mlp/saved_model -o mlp.o
cc -std=c99 -Wall -Wextra -Werror -Wno-missing-field-initializers -O1 -I. "$top"/examples/c/main.c mlp.o "$rt" -Wl,--gc-sections -lm -lpthread -o demo
./demo 1
./demo 33 | tail -n 1
ok "object in C"
if have valgrind; then
    valgrind --quiet --error-exitcode=9 --leak-check=full ./demo 3 >/dev/null
    ok "object in C under valgrind"
fi
if [ "$(uname -m)" = x86_64 ] && cc -fsanitize=address -x c /dev/null -c -o /dev/null 2>/dev/null; then
    if cc -fsanitize=address -I. "$top"/examples/c/main.c mlp.o "$rt" -Wl,--gc-sections -lm -lpthread -o checked 2>/dev/null; then
        ./checked 5 >/dev/null
        ok "object in C with address sanitiser"
    fi
fi

# agrees FOLDER TOLERANCE ARGUMENT...: the model of FOLDER as a library in C, against TensorFlow's answers: with the address sanitiser, which
# looks for leaks too, and in valgrind. The files of references are opened by Python.
agrees() {
    from=$1
    tolerance=$2
    shift 2
    rm -rf runs && mkdir runs
    for io in "$from"/io_*.npz; do python3 -m zipfile -e "$io" runs/"$(basename "$io" .npz)"; done
    run_library "$from" "$tolerance" "$@"
    if [ -e "$from"/train_seq.npz ]; then
        rm -rf runs && mkdir runs && python3 -m zipfile -e "$from"/train_seq.npz runs
        if [ -d runs/after ]; then mv runs/after runs/then; fi
        run_library "$from" "$tolerance" "$@"
    fi
}
run_library() {
    from=$1
    tolerance=$2
    shift 2
    compile "$from"/saved_model -o libchecked.a --input "$from"/io_0.npz "$@"
    # shellcheck disable=SC2086
    cc -std=gnu99 -Wall -Wextra -Werror -Wno-missing-field-initializers -O1 -g $sanitised -DMODEL=checked_model -I. "$top"/tests/aot/agrees.c \
        libchecked.a -Wl,--gc-sections -lm -lpthread -ldl -o agrees
    ./agrees runs "$tolerance" >agrees.out || { cat agrees.out && exit 1; }
    if have valgrind; then
        cc -std=gnu99 -O1 -DMODEL=checked_model -I. "$top"/tests/aot/agrees.c libchecked.a -Wl,--gc-sections -lm -lpthread -ldl -o agrees
        valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite ./agrees runs "$tolerance" >agrees.out ||
            { cat agrees.out && exit 1; }
    fi
    ok "library in C: $(basename "$from"), $(ls runs | wc -l) runs"
}
sanitised=
if [ "$(uname -m)" = x86_64 ] && cc -fsanitize=address,undefined -x c /dev/null -c -o /dev/null 2>/dev/null; then sanitised=-fsanitize=address,undefined; fi
if have python3; then
    agrees "$golden"/words 1e-4
    agrees "$golden"/small_cnn 1e-4
    shared=$top/../shared/models
    if [ -d "$shared" ]; then
        agrees "$shared"/real/guesslang 1e-4
        agrees "$shared"/generated/wide_deep_strings 1e-4
        # Adam divides by the root of squares that are near zero, as tests/models.sh says.
        agrees "$shared"/generated/train_cnn_adam_raw 5e-3 --all-signatures
        if [ -d "$shared"/generated/lstm_text ]; then agrees "$shared"/generated/lstm_text 1e-4; fi
    fi
fi

# Two models in one program, as static libraries.
compile "$golden"/mlp/saved_model -o libmlp.a
compile "$golden"/small_cnn/saved_model -o libcnn.a
cat >two.c <<'C'
#include <stdio.h>
#include "cnn.h"
#include "mlp.h"
int main(void) { return graphc_function_count(&mlp_model) + graphc_function_count(&cnn_model) == 2 ? 0 : 1; }
C
cc -I. two.c libmlp.a libcnn.a -lm -lpthread -o two
./two
ok "two static libraries in C"
if have c++; then
    c++ -std=c++17 -Wall -Wextra -Werror -I. "$top"/examples/cpp/main.cpp libmlp.a -lm -lpthread -o both
    ./both >/dev/null
    ok "static library in C++"
else
    echo "skipped static library in C++: there is no c++"
fi

# A shared library, whose exports are the model and the interface.
compile "$golden"/mlp/saved_model -o libmlp.so
if [ "$(nm -D --defined-only libmlp.so | grep -cv -e ' graphc_' -e ' mlp_model')" != 0 ]; then
    echo "libmlp.so exports more than its interface" >&2
    exit 1
fi
if have python3 && python3 -c 'import numpy' 2>/dev/null; then
    python3 - "$golden"/mlp/io_1.npz <<'P'
import sys
import numpy as np
import mlp
reference = np.load(sys.argv[1])
model = mlp.Model(threads=2)
outputs = model(x=reference["in/x"])
assert np.abs(outputs["output"] - reference["out/output"]).max() < 1e-6
for wrong, error in [(dict(x=reference["in/x"][:, :3]), mlp.Error), (dict(x=np.zeros((1, 64))), TypeError), (dict(y=1), TypeError)]:
    try:
        model(**wrong)
    except error:
        continue
    raise AssertionError(f"{error} was not raised")
P
    compile "$golden"/words/saved_model -o libwords.so
    python3 - "$golden"/words/io_1.npz <<'P'
import sys
import numpy as np
import words
reference = np.load(sys.argv[1])
model = words.Model()
for text in reference["in/text"], [t.decode() for t in reference["in/text"]]:
    outputs = model(text=text)
    assert [bytes(s) for s in outputs["label"]] == list(reference["out/label"])
    assert np.abs(outputs["probabilities"] - reference["out/probabilities"]).max() < 1e-6
P
    ok "shared libraries in Python"
else
    echo "skipped shared library in Python: there is no NumPy"
fi

# Programs, with weights in them and beside them, and a package: all three answer alike, on another batch than the example too.
compile "$golden"/basic_pitch/saved_model -o pitch
compile "$golden"/basic_pitch/saved_model -o outside --weights outside.weights
compile "$golden"/basic_pitch/saved_model -o pitch.graphc
for io in "$golden"/basic_pitch/io_*.npz; do
    ./pitch --input "$io" --output a.npz
    ./outside --weights outside.weights --threads 2 --input "$io" --output b.npz
    "$graphc" run pitch.graphc --input "$io" --output c.npz >/dev/null
    "$graphc" run "$golden"/basic_pitch/saved_model --input "$io" --output d.npz >/dev/null
    if have python3 && python3 -c 'import numpy' 2>/dev/null; then
        python3 - <<'P'
import numpy as np
a, *rest = (np.load(f"{f}.npz") for f in "abcd")
assert all(sorted(a.files) == sorted(r.files) and all((a[k] == r[k]).all() for k in a.files) for r in rest)
P
    else
        cmp a.npz b.npz
    fi
done
if ./outside --input "$io" --output b.npz 2>error || ! grep -q 'weights' error; then
    echo "a program without its weights says nothing of them" >&2
    exit 1
fi
dd if=/dev/zero of=pitch.graphc bs=1 count=8 seek=5000 conv=notrunc 2>/dev/null
if "$graphc" run pitch.graphc 2>error || ! grep -q 'damaged' error; then
    echo "a damaged package is run" >&2
    exit 1
fi
compile "$golden"/words/saved_model -o words
compile "$golden"/words/saved_model -o words.graphc
./words --input "$golden"/words/io_0.npz | grep -q '"blue"'
"$graphc" run words.graphc --input "$golden"/words/io_0.npz | grep -q blue
ok "programs and packages"

# Only libc, libm and libgcc_s are needed.
if have ldd && ldd ./pitch | grep -v -e linux-vdso -e ld-linux -e 'libc\.' -e 'libm\.' -e 'libgcc_s\.'; then
    echo "a program needs more than libc, libm and libgcc_s" >&2
    exit 1
fi

# Line information leads from code to the launch that it is of, and its node.
compile "$golden"/small_cnn/saved_model -o traced -g
grep -q '^  \[2\] conv2d_f32 .*conv2d_1' traced.plan
if have gdb; then
    gdb -batch -ex 'break gc_pool2d_f32' -ex run -ex bt ./traced >backtrace 2>&1
    line=$(grep -n '^  \[1\] pool2d_f32' traced.plan | cut -d: -f1)
    grep -q "traced.serving_default () at ./traced.plan:$line" backtrace || { cat backtrace && exit 1; }
    ok "line information in gdb"
else
    echo "skipped line information: there is no gdb"
fi

# The same bytes, whatever the process.
compile "$golden"/basic_pitch/saved_model -o pitch1.o --name pitch
GRAPHC_TIER=portable compile "$golden"/basic_pitch/saved_model -o pitch2.o --name pitch
cmp pitch1.o pitch2.o
ok "reproducible objects"

# A Rust program with a model in it, built by cargo.
cd "$top"/examples/rust
GRAPHC=$graphc CARGO_TARGET_DIR=$target cargo build --release --quiet
test "$("$target"/release/graphc-example 33 | tail -n 3 | head -n 1)" = "$("$folder"/demo 33 | tail -n 1)"
"$target"/release/graphc-example 1 "It runs FAST." | grep -q '"It runs FAST." is "green"'
ok "typed functions in Rust"
