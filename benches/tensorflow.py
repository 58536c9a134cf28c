#!/usr/bin/env python3
"""Latency of models under graphc and under TensorFlow, in turns on one machine.

    pip install tensorflow-cpu
    cargo build --release
    python benches/tensorflow.py MODEL... [--threads N] [--rounds R] [--seconds S] [--json FILE]

MODEL is a folder with `saved_model/` (or `graph.pb` and `meta.json`, which names its inputs and outputs) and `io_0.npz`, whose keys
`in/<name>` are the inputs. TensorFlow runs as users run it: its defaults, oneDNN included, with N threads inside ops and between
them. Each round is a burst of TensorFlow and one of graphc, so that a busy machine slows both; the best of all runs is compared, and
the median shows how quiet the machine was. A ratio above 1 means that graphc is faster.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def tensorflow_worker(folder, threads):
    """Loads a model, then answers each line on stdin (seconds of a burst) with the times of its runs in milliseconds."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sys.path.pop(0)  # this script's folder, where `tensorflow` is this script
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    meta = json.loads((folder / "meta.json").read_text()) if (folder / "meta.json").exists() else {}
    arrays = np.load(folder / "io_0.npz", allow_pickle=True)
    feeds = {k[3:]: tf.constant(arrays[k]) for k in arrays.files if k.startswith("in/")}
    if (folder / "saved_model").is_dir():
        feeds = {k.split(":")[0]: v for k, v in feeds.items()}
        name = meta.get("signature", "serving_default")
        try:
            signature = tf.saved_model.load(str(folder / "saved_model")).signatures[name]
            run = lambda: [t.numpy() for t in signature(**feeds).values()]
        except AttributeError:  # objects of a Keras that is not installed: the graph alone
            config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
            session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
            with session.graph.as_default():
                signature = tf.compat.v1.saved_model.load(session, ["serve"], str(folder / "saved_model")).signature_def[name]
            outputs = [t.name for t in signature.outputs.values()]
            call = session.make_callable(outputs, [signature.inputs[k].name for k in feeds])
            values = [v.numpy() for v in feeds.values()]
            run = lambda: call(*values)
    else:
        graph = tf.compat.v1.GraphDef()
        graph.ParseFromString((folder / "graph.pb").read_bytes())
        tensor = lambda name: name if ":" in name else name + ":0"
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
        pruned = wrapped.prune([tensor(k) for k in feeds], [tensor(k) for k in meta["frozen_outputs"]])
        run = lambda: [t.numpy() for t in pruned(*feeds.values())]
    for _ in range(3):
        run()
    print("ready", flush=True)
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"best": min(times), "median": statistics.median(times)}), flush=True)


def start_worker(folder, threads):
    """A process that answers bursts, and whether it uses oneDNN: where TensorFlow crashes with it, it runs without."""
    command = [sys.executable, __file__, "--worker", folder, "--threads", str(threads)]
    for onednn in (True, False):
        log = tempfile.TemporaryFile("w+")
        environment = os.environ if onednn else {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        if worker.stdout.readline():
            return worker, onednn
    log.seek(0)
    sys.exit(f"TensorFlow fails on {folder}:\n{log.read()}")


def compare(folder, args):
    model = folder / "saved_model"
    model = model if model.is_dir() else folder / "graph.pb"
    graphc = [args.graphc, "bench", model, "-i", folder / "io_0.npz", "--json"]
    graphc += ["--threads", str(args.threads), "--seconds", str(args.seconds)]
    worker, onednn = start_worker(folder, args.threads)
    theirs, ours = [], []
    for _ in range(args.rounds):
        print(args.seconds, file=worker.stdin, flush=True)
        theirs.append(json.loads(worker.stdout.readline()))
        burst = json.loads(subprocess.run(graphc, check=True, capture_output=True, text=True).stdout)
        ours.append({"best": burst["best_ms"], "median": burst["median_ms"]})
    worker.stdin.close()
    worker.wait()
    row = {"model": folder.name, "threads": args.threads, "onednn": onednn}
    for name, bursts in (("tensorflow", theirs), ("graphc", ours)):
        row[name + "_best_ms"] = min(b["best"] for b in bursts)
        row[name + "_median_ms"] = statistics.median(b["median"] for b in bursts)
    row["ratio"] = row["tensorflow_best_ms"] / row["graphc_best_ms"]
    row["median_ratio"] = row["tensorflow_median_ms"] / row["graphc_median_ms"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="bursts of each")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a burst")
    parser.add_argument("--graphc", default=ROOT / "target/release/graphc", help="the binary")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here, too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return tensorflow_worker(args.models[0], args.threads)
    print(f"{'best / median, ms':<28} {'TensorFlow':>19} {'graphc':>19} {'ratio':>6}")
    rows = []
    for folder in args.models:
        row = compare(folder, args)
        rows.append(row)
        cell = lambda name: f"{row[name + '_best_ms']:9.3f} {row[name + '_median_ms']:9.3f}"
        note = "" if row["onednn"] else "  (TensorFlow crashes with oneDNN: without)"
        print(f"{row['model']:<28} {cell('tensorflow')} {cell('graphc')} {row['ratio']:6.2f}{note}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
