#!/bin/sh
# Golden models against TensorFlow's answers: through code in memory, the interpreter and a linked object.
set -eu
cd "$(dirname "$0")/.."
graphc=target/release/graphc
failed=0

# check FOLDER BACKEND...: the model of FOLDER against its io_*.npz.
check() {
    folder=$1
    shift
    model=$folder/saved_model
    [ -e "$model" ] || model=$folder/graph.pb
    for backend in "$@"; do
        if $graphc check "$model" "$folder"/io_*.npz --backend "$backend" >/tmp/graphc-check.$$ 2>&1; then
            printf 'ok      %-7s %s\n' "$backend" "$folder"
        else
            printf 'FAILED  %-7s %s\n' "$backend" "$folder"
            cat /tmp/graphc-check.$$
            failed=1
        fi
        rm -f /tmp/graphc-check.$$
    done
}

for name in mlp small_cnn transformer recurrent basic_pitch; do
    check tests/golden/$name jit interp object
done

shared=../shared/models
if [ -d $shared ]; then
    for name in generated/mlp generated/small_cnn generated/cnn_mixed_f16 generated/cnn_mixed_bf16 generated/mobilenet_v2 \
        real/js_movenet-lightning real/js_facemesh real/js_facemesh-detection-short real/js_blazeface-front real/js_selfie \
        real/js_handlandmark-lite real/js_emotion real/js_age real/js_liveness; do
        check $shared/$name jit object
    done
else
    echo "no $shared: the golden models of the repository alone"
fi
exit $failed
