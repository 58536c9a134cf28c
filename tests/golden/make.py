#!/usr/bin/env python3
"""Makes the golden models of this folder with TensorFlow: a SavedModel each, and two input sets with what TensorFlow answers.

    pip install tensorflow-cpu==2.21.0 && python make.py [NAME...]

Seeds are fixed. The answers are computed without oneDNN, whose results differ. `basic_pitch` is not made here: it is the published
model (see its NOTICE), run on noise by the same code: `python make.py basic_pitch`.
"""
import os
import shutil
import sys
import zlib

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import keras
import tensorflow as tf
from keras import layers as L

HERE = os.path.dirname(os.path.abspath(__file__))


def generator(name, k=0):
    return np.random.default_rng(zlib.crc32(name.encode()) + k)


def randomise_statistics(model, rng):
    """Gives batch normalisation the statistics that training would leave."""
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            n = layer.gamma.shape
            layer.set_weights([rng.uniform(0.7, 1.3, n), rng.normal(0, 0.1, n), rng.normal(0, 0.1, n), rng.uniform(0.5, 1.5, n)])


def answer(name, inputs):
    """Writes io_K.npz for each input set: keys in/<name> and out/<name>."""
    folder = os.path.join(HERE, name)
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph(), config=v1.ConfigProto(allow_soft_placement=True)) as session:
        signature = v1.saved_model.load(session, ["serve"], os.path.join(folder, "saved_model")).signature_def["serving_default"]
        outputs = {key: t.name for key, t in signature.outputs.items()}
        for k, x in enumerate(inputs):
            y = session.run(outputs, {signature.inputs[key].name: v for key, v in x.items()})
            arrays = {f"in/{key}": v for key, v in x.items()} | {f"out/{key}": v for key, v in y.items()}
            plain = {key: v.astype("S") if v.dtype == object else v for key, v in arrays.items()}
            np.savez_compressed(os.path.join(folder, f"io_{k}.npz"), **plain)


def save(name, model, specs, inputs, variables=None):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    serve = tf.function(lambda *a: {"output": model(list(a) if len(a) > 1 else a[0], training=False)}, input_signature=specs, autograph=False)
    module = tf.Module()
    module.variables_ = variables or [v.value for v in model.variables]
    module.serve = serve
    tf.saved_model.save(module, os.path.join(folder, "saved_model"), signatures={"serving_default": serve})
    os.remove(os.path.join(folder, "saved_model", "fingerprint.pb"))
    answer(name, inputs)


def mlp(name):
    model = keras.Sequential([L.Input((64,)), L.Dense(128, "relu"), L.Dense(96, "tanh"), L.Dense(10, "softmax")])
    x = [{"x": generator(name, k).normal(size=(b, 64)).astype("f")} for k, b in enumerate((1, 5))]
    save(name, model, [tf.TensorSpec([None, 64], tf.float32, "x")], x)


def small_cnn(name):
    model = keras.Sequential([
        L.Input((28, 28, 3)), L.Conv2D(24, 3, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(),
        L.Conv2D(40, 3, strides=2, activation="silu"), L.AveragePooling2D(2), L.SeparableConv2D(48, 3, padding="same", activation="gelu"),
        L.Conv2D(32, 3, dilation_rate=2, padding="same", activation="relu6"), L.Conv2DTranspose(16, 3, strides=2, padding="same"),
        L.GlobalAveragePooling2D(), L.Dense(10, "softmax")])
    randomise_statistics(model, generator(name, 9))
    x = [{"x": generator(name, k).random((b, 28, 28, 3)).astype("f")} for k, b in enumerate((1, 5))]
    save(name, model, [tf.TensorSpec([None, 28, 28, 3], tf.float32, "x")], x)


def transformer(name, width=48, heads=4, blocks=2, vocabulary=200):
    """Open batch and sequence length, a padding mask, pre- and post-normalisation."""
    ids, mask = L.Input((None,), dtype="int32", name="ids"), L.Input((None,), dtype="int32", name="mask")
    x = L.Embedding(vocabulary, width)(ids)
    keep = L.Lambda(lambda m: m[:, None, :] > 0)(mask)
    for k in range(blocks):
        a = L.MultiHeadAttention(heads, width // heads)(x, x, attention_mask=keep)
        x = L.LayerNormalization(epsilon=1e-6)(x + a)
        x = x + L.Dense(width)(L.Dense(2 * width, "gelu" if k else "relu")(L.LayerNormalization()(x)))
    model = keras.Model([ids, mask], L.Dense(7)(x))

    def inputs(k, batch, length):
        r = generator(name, k)
        real = r.integers(1, length + 1, (batch, 1))
        return {"ids": r.integers(0, vocabulary, (batch, length)).astype("i4"), "mask": (np.arange(length)[None] < real).astype("i4")}

    specs = [tf.TensorSpec([None, None], tf.int32, n) for n in ("ids", "mask")]
    save(name, model, specs, [inputs(0, 1, 9), inputs(1, 3, 21)])


def recurrent(name):
    """An LSTM and a GRU over 12 steps, unrolled: no loop in the graph."""
    model = keras.Sequential([L.Input((12, 16)), L.LSTM(32, return_sequences=True, unroll=True), L.GRU(24, unroll=True), L.Dense(5, "sigmoid")])
    x = [{"x": generator(name, k).normal(size=(b, 12, 16)).astype("f")} for k, b in enumerate((1, 4))]
    save(name, model, [tf.TensorSpec([None, 12, 16], tf.float32, "x")], x)


def quantised(name):
    """Quantised in every way that graphs say it: ranges by variables, attributes and channels, rounding ops, quantised numbers."""
    r = generator(name, 9)
    q = tf.quantization

    def weights(shape):
        return tf.Variable(r.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype("f"))

    def channels(w):
        return q.fake_quant_with_min_max_vars_per_channel(w, -most[w.ref()], most[w.ref()], narrow_range=True)

    def whole(w):
        return q.quantize_and_dequantize_v2(w, -1.0, 1.0, narrow_range=True, range_given=True)

    def numbers(x, low, high, dtype, **how):
        y, low, high = q.quantize(x, low, high, dtype, **how)
        how.pop("round_mode", None)
        return q.dequantize(y, low, high, **how)

    first, second, deep, point = weights([3, 3, 3, 16]), weights([3, 3, 16, 24]), weights([3, 3, 24, 1]), weights([1, 1, 24, 32])
    dense, last = weights([32 * 25, 48]), weights([48, 20])
    bias = [tf.Variable(r.normal(0, 0.1, n).astype("f")) for n in (16, 24, 24, 32, 48, 20)]
    stored = tf.constant(r.integers(-127, 128, [20, 24]), tf.int8)
    scales = np.linspace(1, 2, 24).astype("f")
    most = {w.ref(): np.abs(w.numpy()).max(tuple(range(w.shape.rank - 1))) for w in (first, second, deep, last)}
    low, high = tf.Variable(-1.0), tf.Variable(1.2)

    def model(x, training):
        x = q.fake_quant_with_min_max_vars(x, low, high)
        x = tf.nn.relu6(tf.nn.conv2d(x, channels(first), 1, "SAME") + bias[0])
        x = q.fake_quant_with_min_max_args(x, 0.0, 6.0)
        x = tf.nn.relu(tf.nn.conv2d(x, channels(second), 2, "SAME") + bias[1])
        x = q.fake_quant_with_min_max_vars(x, 0.0, 5.0)
        y = tf.nn.relu6(tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME") + bias[2])
        x = q.fake_quant_with_min_max_vars(x + y, 0.0, 9.0)
        x = q.fake_quant_with_min_max_vars(tf.nn.conv2d(x, whole(point), 1, "SAME") + bias[3], -6.0, 7.0)
        x = tf.reshape(tf.nn.max_pool2d(x, 2, 2, "SAME"), [-1, 32 * 25])
        x = q.quantize_and_dequantize_v2(x, -6.0, 6.0, range_given=True)
        x = tf.tanh(x @ whole(dense) + bias[4])
        x = q.quantize_and_dequantize_v2(x, -1.0, 1.0, range_given=True, round_mode="HALF_UP")
        x = numbers(x @ channels(last) + bias[5], -3.0, 3.0, tf.qint8, mode="SCALED", round_mode="HALF_TO_EVEN", narrow_range=True)
        y = q.dequantize(tf.bitcast(stored, tf.qint8), -scales, scales, mode="SCALED", axis=1, narrow_range=True)
        x = numbers(tf.nn.relu(x @ y), 0.0, 9.0, tf.quint8, mode="MIN_COMBINED")
        y = numbers(tf.transpose(y)[:, :16], -2.0, 2.0, tf.qint8, mode="SCALED")
        x = numbers(x @ y, -20.0, 30.0, tf.quint8, mode="MIN_FIRST")
        return x @ y[:16]

    model.variables = []
    x = [{"x": generator(name, k).uniform(-1, 1.2, (b, 20, 20, 3)).astype("f")} for k, b in enumerate((1, 3))]
    save(name, model, [tf.TensorSpec([None, 20, 20, 3], tf.float32, "x")], x,
         [first, second, deep, point, dense, last, low, high, *bias])


def words(name):
    """Strings to a class: words of texts, a vocabulary in a file that comes with the model, a table, means of open numbers of words, labels."""
    vocabulary = "the of and to in is that it for was on are as with graph node edge tensor kernel compile run fast".split()
    rng = generator(name, 9)
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    asset = os.path.join(folder, "vocabulary.txt")
    with open(asset, "w") as f:
        f.write("\n".join(vocabulary) + "\n")

    class Words(tf.Module):
        def __init__(self):
            lines = tf.lookup.TextFileInitializer(asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
            self.table = tf.lookup.StaticVocabularyTable(lines, num_oov_buckets=3)
            self.embedding = tf.Variable(rng.normal(size=(len(vocabulary) + 3, 8)).astype("f"))
            self.weights = tf.Variable(rng.normal(size=(8, 4)).astype("f"))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def serve(self, text):
            clean = tf.strings.regex_replace(tf.strings.lower(text), "[^a-z ]", "")
            tokens = tf.strings.split(clean)
            vectors = tf.gather(self.embedding, self.table.lookup(tokens.values))
            mean = tf.math.unsorted_segment_mean(vectors, tokens.value_rowids(), tokens.nrows())
            probabilities = tf.nn.softmax(mean @ self.weights)
            label = tf.gather(tf.constant(["red", "green", "blue", "none of them"]), tf.argmax(probabilities, axis=1))
            return {"label": label, "probabilities": probabilities}

    module = Words()
    tf.saved_model.save(module, os.path.join(folder, "saved_model"), signatures={"serving_default": module.serve})
    os.remove(os.path.join(folder, "saved_model", "fingerprint.pb"))
    os.remove(asset)
    texts = ["Compile the graph: a node, an edge!", "It runs FAST.", "", "kernel kernel tensor \u00fcber of", "unknown words only"]
    answer(name, [{"text": np.array([t.encode() for t in list])} for list in (texts[:1], texts)])


def split(name):
    """Two halves on two devices: a layer on a GPU, what follows on the CPU; and a loop that says nothing of devices."""
    rng = generator(name)
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)

    class Split(tf.Module):
        def __init__(self):
            self.first = tf.Variable(rng.normal(size=(16, 32)).astype("f"))
            self.second = tf.Variable(rng.normal(size=(32, 8)).astype("f"))

        @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, "x")])
        def serve(self, x):
            with tf.device("/device:GPU:0"):
                h = tf.nn.relu(x @ self.first)
            with tf.device("/job:localhost/replica:0/task:0/device:CPU:0"):
                y = tf.nn.softmax(h @ self.second)
                total = tf.reduce_sum(h, axis=1)
            for k in tf.range(3):
                total = tf.tanh(total) + tf.cast(k, tf.float32)
            with tf.device("/GPU:0"):
                z = tf.sqrt(y) * total[:, None] + h[:, :8]
            return {"y": y, "z": z}

    module = Split()
    tf.saved_model.save(module, os.path.join(folder, "saved_model"), signatures={"serving_default": module.serve})
    os.remove(os.path.join(folder, "saved_model", "fingerprint.pb"))
    answer(name, [{"x": rng.normal(size=(n, 16)).astype("f")} for n in (1, 5)])


def rounds(name):
    """A loop with strings in its rounds, which run node by node around products on a GPU."""
    rng = generator(name)
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)

    class Rounds(tf.Module):
        def __init__(self):
            self.w = tf.Variable(rng.normal(size=(16, 16)).astype("f") * 0.3)

        @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, "x"), tf.TensorSpec([], tf.int32, "n")])
        def serve(self, x, n):
            def body(k, h):
                text = tf.strings.as_string(k)
                h = tf.tanh(h @ self.w) + tf.strings.to_number(text) * 0.1
                return k + 1, tf.cond(tf.strings.length(text) > 1, lambda: h * 2.0, lambda: h @ self.w + 0.5)

            return {"h": tf.while_loop(lambda k, h: k < n, body, (tf.constant(0), x))[1]}

    module = Rounds()
    tf.saved_model.save(module, os.path.join(folder, "saved_model"), signatures={"serving_default": module.serve})
    os.remove(os.path.join(folder, "saved_model", "fingerprint.pb"))
    answer(name, [{"x": rng.normal(size=(b, 16)).astype("f"), "n": np.array(n, "i4")} for b, n in ((2, 0), (3, 4), (5, 12))])


def pair(name):
    """Layers on two GPUs and the CPU: each GPU reads what the other has computed."""
    rng = generator(name)
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)

    class Pair(tf.Module):
        def __init__(self):
            self.first = tf.Variable(rng.normal(size=(16, 32)).astype("f"))
            self.second = tf.Variable(rng.normal(size=(32, 16)).astype("f"))

        @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, "x")])
        def serve(self, x):
            with tf.device("/GPU:0"):
                a = tf.nn.relu(x @ self.first)
            with tf.device("/GPU:1"):
                b = tf.tanh(x @ self.first) + a
                c = tf.nn.softmax(b @ self.second)
            with tf.device("/GPU:0"):
                y = tf.sqrt(c) @ self.first + a * 0.5
            with tf.device("/CPU:0"):
                z = tf.reduce_max(tf.exp(x), axis=1) + tf.reduce_sum(c, axis=1)
            return {"y": y, "z": z}

    module = Pair()
    tf.saved_model.save(module, os.path.join(folder, "saved_model"), signatures={"serving_default": module.serve})
    os.remove(os.path.join(folder, "saved_model", "fingerprint.pb"))
    answer(name, [{"x": rng.normal(size=(n, 16)).astype("f")} for n in (1, 5)])


def basic_pitch(name):
    x = [{"input_2": generator(name, k).normal(0, 0.1, (b, 43844, 1)).astype("f")} for k, b in enumerate((1, 2))]
    answer(name, x)


if __name__ == "__main__":
    for n in sys.argv[1:] or ["mlp", "small_cnn", "transformer", "recurrent", "quantised", "words", "split", "pair", "rounds"]:
        keras.utils.clear_session()
        keras.utils.set_random_seed(zlib.crc32(n.encode()) % 2**31)
        globals()[n](n)
        print(n)
