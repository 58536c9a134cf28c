"""Makes the small models of this directory with TensorFlow, and beside each `variables.tsv`: what TensorFlow reads from its checkpoint
(name, element type, shape, hexadecimal bytes; for strings each one's bytes, separated by commas).

    TF_ENABLE_ONEDNN_OPTS=0 python make.py
"""
import os
import shutil

import numpy as np
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
v1 = tf.compat.v1


def fresh(name):
    path = os.path.join(HERE, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write_expected(path, values):
    with open(os.path.join(path, "variables.tsv"), "w") as out:
        for name, value in sorted(values.items()):
            value = np.asarray(value)
            text = ",".join(s.hex() for s in value.ravel()) if value.dtype == object else value.tobytes().hex()
            dtype = "string" if value.dtype == object else value.dtype.name
            out.write(f"{name}\t{dtype}\t{','.join(map(str, value.shape))}\t{text}\n")


class Calls(tf.Module):
    """Nested calls, a variable that only one signature changes (inside a branch), a table from an asset, effects without results."""

    def __init__(self, vocabulary):
        self.w = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3), name="w")
        self.b = tf.Variable(np.array([0.5, -1, 2], np.float32), name="b")
        self.count = tf.Variable(7, dtype=tf.int64, name="count")
        self.names = tf.Variable(tf.constant([b"a", b"", b"\x00\xff long"]), name="names")
        self.vocabulary = tf.saved_model.Asset(vocabulary)
        initializer = tf.lookup.TextFileInitializer(
            self.vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function
    def dense(self, x):
        return tf.matmul(x, self.w) + self.b

    @tf.function
    def layer(self, x):
        y = self.dense(x)
        return tf.nn.relu(y), y

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(self, x):
        positive, _ = self.layer(x)
        total, _ = self.layer(x * 2.0)
        return {"positive": positive, "total": tf.reduce_sum(total)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.bool, name="up")])
    def step(self, up):
        tf.cond(up, lambda: self.count.assign_add(1), lambda: self.count.assign_sub(1))
        return {"count": self.count.read_value()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def look_up(self, words):
        return {"ids": self.table.lookup(words), "names": tf.identity(self.names)}


def calls():
    path = fresh("calls")
    vocabulary = os.path.join(path, "vocabulary.txt")
    with open(vocabulary, "w") as out:
        out.write("alpha\nbeta\n")
    module = Calls(vocabulary)
    tf.saved_model.save(module, path, signatures={"serving_default": module.serve, "step": module.step, "look_up": module.look_up})
    os.remove(vocabulary)
    os.remove(os.path.join(path, "fingerprint.pb"))
    reader = tf.train.load_checkpoint(os.path.join(path, "variables", "variables"))
    write_expected(path, {k: reader.get_tensor(f"{k}/.ATTRIBUTES/VARIABLE_VALUE") for k in ("w", "b", "count", "names")})


def partitioned():
    path = fresh("partitioned")
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 5], name="x")
        with v1.variable_scope("m", partitioner=v1.fixed_size_partitioner(3, axis=0), use_resource=False):
            w = v1.get_variable("w", initializer=tf.constant(np.arange(35, dtype=np.float32).reshape(5, 7)))
        with v1.variable_scope("m", partitioner=v1.fixed_size_partitioner(2, axis=1), use_resource=True):
            r = v1.get_variable("r", initializer=tf.constant(np.arange(21, dtype=np.float16).reshape(7, 3)))
        h = v1.get_variable("h", initializer=tf.constant([True, False, True]), use_resource=True)
        z = v1.get_variable("z", initializer=tf.constant([1 + 2j, 3 - 1j], tf.complex64), use_resource=True)
        y = tf.matmul(tf.matmul(x, tf.convert_to_tensor(w)), tf.cast(tf.convert_to_tensor(r), tf.float32))
        y = tf.identity(y, name="y")
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(sharded=False)
        saver.save(session, os.path.join(path, "model.ckpt"))
        values = {v.op.name: session.run(v) for v in v1.global_variables()}
        write_expected(path, values)
    os.remove(os.path.join(path, "checkpoint"))  # it names the directory of the machine


calls()
partitioned()
