#!/bin/sh
# Golden models against TensorFlow's answers, as a user checks them: through code in memory and a linked object; models beside the checkout, too.
set -eu
cd "$(dirname "$0")/.."
graphc=${CARGO_TARGET_DIR:-target}/release/graphc
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# check FOLDER RTOL BACKEND...: the model of FOLDER against its io_*.npz, and its sequence of training steps, each in a session of its own.
check() {
    folder=$1
    rtol=$2
    shift 2
    model=$folder/saved_model
    [ -e "$model" ] || model=$folder/graph.pb
    if ! [ -e "$model" ]; then
        echo "skipped         $folder is not there"
        return
    fi
    checkpoint=
    if [ -d "$folder/ckpt" ]; then checkpoint="--checkpoint $folder/ckpt"; fi
    for backend in "$@"; do
        # shellcheck disable=SC2086
        one "$backend" "$folder" "$model" "$folder"/io_*.npz --backend "$backend" --rtol "$rtol" $checkpoint
        if [ -e "$folder/train_seq.npz" ]; then
            one "$backend" "$folder (steps)" "$model" "$folder/train_seq.npz" --backend "$backend" --rtol "$rtol"
        fi
    done
}

# one BACKEND LABEL ARGUMENT...: one check.
one() {
    backend=$1
    label=$2
    shift 2
    if "$graphc" check "$@" >"$log" 2>&1; then
        printf 'ok      %-7s %s\n' "$backend" "$label"
    else
        printf 'FAILED  %-7s %s\n' "$backend" "$label"
        cat "$log"
        failed=1
    fi
}

for name in mlp small_cnn transformer recurrent quantised words basic_pitch; do
    check tests/golden/$name 1e-4 jit object
done

shared=../shared/models
if [ -d $shared ]; then
    for name in generated/mlp generated/small_cnn generated/greedy_decode generated/mobilenet_v2 real/js_movenet-lightning real/js_facemesh \
        real/js_facemesh-detection-short real/js_blazeface-front real/js_handlandmark-lite real/js_emotion real/js_age real/js_liveness; do
        check $shared/$name 1e-4 jit object
    done
    # Run in stages.
    for name in generated/control_flow generated/example_parse generated/image_preproc generated/wide_deep_strings generated/v1_control_flow_frozen \
        generated/v1_dynamic_rnn_frozen generated/v1_save_restore generated/v1_saved_model_train real/guesslang real/MTT_musicnn real/js_rvm \
        real/js_faceboxes; do
        check $shared/$name 1e-4 jit object
    done
    for name in train_mlp_sgd_raw train_mlp_adam_keras train_lstm_keras; do
        check $shared/generated/$name 1e-4 jit object
    done
    # Adam divides by the root of squares that are near zero: TensorFlow with and without oneDNN differs by 2.5e-3 after five steps.
    for name in train_cnn_adam_raw train_cnn_adam_keras; do
        check $shared/generated/$name 5e-3 jit object
    done
    # Sums of halves, in another order.
    check $shared/generated/cnn_mixed_f16 5e-3 jit object
    check $shared/generated/cnn_mixed_bf16 5e-3 jit object
    # Its references are oneDNN's, which differ from TensorFlow's plain kernels by 8% of outputs of 1e-9: tests/integration/golden.rs compares with the interpreter.
    echo "known           $shared/real/js_selfie"
else
    echo "no $shared: the golden models of the repository alone"
fi
exit $failed
