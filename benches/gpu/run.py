#!/usr/bin/env python3
"""Kernels and whole models on a GPU, in one command.

    python benches/gpu/run.py [--models FOLDER ...] [--out FOLDER]

Builds graphc for GPUs (or takes --graphc and --kernels, built elsewhere), then

1. each kernel as a share of the measured bandwidth, or of the measured peak of its arithmetic (backends/gpu/benches/kernels.rs);
2. each model with graphc in f32, tf32 and bf16 beside the engines that are installed: TensorFlow's XLA, JAX (the same SavedModel, compiled by
   jax.jit through jax2tf.call_tf), PyTorch (torch.compile of the model's ONNX through onnx2torch) and ONNX Runtime (CUDA).

A model is a folder with saved_model/ and io_0.npz (in/NAME, out/NAME), and model.onnx for the engines that read that (benches/peers makes all of them).
A run starts and ends with arrays of the host; engines take turns, each in a process of its own. What is not installed is said and left out.
Results go to OUT/results.json and OUT/table.md, with the machine's description. `--small` only tries the command: it says nothing of speed.
"""
import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRECISIONS = ["f32", "tf32", "bf16"]
# What answers may be off by, of the outputs' scale.
TOLERANCE = {"f32": 1e-3, "tf32": 2e-2, "bf16": 0.5}


# Engines of Python: from a folder and inputs to a function of no arguments that answers with arrays of the host, by name.


def xla(folder, inputs):
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        raise RuntimeError("TensorFlow sees no GPU")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    compiled = tf.function(lambda feeds: signature(**feeds), jit_compile=True)
    return lambda: {k: v.numpy() for k, v in compiled({k: tf.constant(v) for k, v in inputs.items()}).items()}


def jax(folder, inputs):
    import jax
    import numpy as np
    import tensorflow as tf
    from jax.experimental import jax2tf

    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX computes on {jax.default_backend()}")
    jax.config.update("jax_default_matmul_precision", "highest")
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    compiled = jax.jit(jax2tf.call_tf(lambda feeds: signature(**feeds)))
    return lambda: {k: np.asarray(v) for k, v in compiled(inputs).items()}


def torch(folder, inputs):
    import onnx
    import onnx2torch
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU")
    model = onnx.load(folder / "model.onnx")
    names = [o.name for o in model.graph.output]
    order = [i.name for i in model.graph.input]
    compiled = torch.compile(onnx2torch.convert(model).cuda().eval())

    def run():
        with torch.inference_mode():
            answers = compiled(*[torch.from_numpy(inputs[plain(n)]).cuda(non_blocking=True) for n in order])
        answers = answers if isinstance(answers, (list, tuple)) else [answers]
        return {plain(n): a.cpu().numpy() for n, a in zip(names, answers)}

    return run


def onnxruntime(folder, inputs):
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeError("ONNX Runtime was installed without CUDA")
    options = {"use_tf32": "0"}
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=[("CUDAExecutionProvider", options)])
    names = [o.name for o in session.get_outputs()]
    feeds = {i.name: inputs[plain(i.name)] for i in session.get_inputs()}
    return lambda: {plain(n): a for n, a in zip(names, session.run(names, feeds))}


ENGINES = {"xla": xla, "jax": jax, "torch": torch, "onnxruntime": onnxruntime}


def plain(name):
    """A tensor's name without what converters put around it."""
    return name.split(":")[0].removeprefix("serving_default_")


def sample(folder, side):
    """The arrays of io_0.npz: `in` or `out`."""
    import numpy as np

    with np.load(folder / "io_0.npz") as arrays:
        return {k.split("/", 1)[1]: arrays[k] for k in arrays.files if k.startswith(side + "/")}


def error(folder, answers):
    """The largest difference from the reference, of the scale of its output."""
    import numpy as np

    worst = 0.0
    for name, expected in sample(folder, "out").items():
        found = answers[name] if name in answers else next(iter(answers.values()))
        scale = max(float(np.abs(expected).max()), 1e-30)
        worst = max(worst, float(np.abs(np.asarray(found, "f8") - expected).max()) / scale)
    return worst


def worker(engine, folder, seconds):
    """One engine with one model: prints a line of JSON."""
    inputs = sample(folder, "in")
    try:
        run = ENGINES[engine](folder, inputs)
        answers = run()
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    except ImportError as e:
        print(json.dumps({"missing": f"{e.name} is not installed"}))
        return
    except Exception as e:  # Whatever an engine says, the others go on.
        print(json.dumps({"missing": " ".join(str(e).split())[:200] or type(e).__name__}))
        return
    print(json.dumps({"best_ms": 1e3 * min(times), "median_ms": 1e3 * statistics.median(times), "error": error(folder, answers)}))


def graphc_model(arguments, folder, precision):
    """The same of graphc, by its command line."""
    common = [folder / "saved_model", "--device", f"GPU:{arguments.device}", "--precision", precision]
    seconds = ["--seconds", str(arguments.seconds), "--json", "--input", folder / "io_0.npz"]
    bench = subprocess.run([arguments.graphc, "bench", *common, *seconds], capture_output=True, text=True)
    if bench.returncode:
        return {"missing": " ".join(bench.stderr.split())[:200]}
    check = subprocess.run(
        [arguments.graphc, "check", *common[:1], folder / "io_0.npz", "--backend", "gpu", *common[1:], "--json"], capture_output=True, text=True
    )
    figures = json.loads(bench.stdout)
    return {"best_ms": figures["best_ms"], "median_ms": figures["median_ms"], "error": relative(check.stdout)}


def relative(text):
    """The largest error of `graphc check --json`, of the outputs' scale."""
    found = []

    def walk(v):
        if isinstance(v, dict):
            found.extend(float(x) for k, x in v.items() if k == "relative" and isinstance(x, (int, float)))
            list(map(walk, v.values()))
        elif isinstance(v, list):
            list(map(walk, v))

    try:
        walk(json.loads(text))
    except json.JSONDecodeError:
        return None
    return max(found, default=None)


def machine():
    """What the figures are of."""
    text = {"system": platform.platform(), "python": platform.python_version()}
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
        text["gpu"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        text["gpu"] = "nvidia-smi is not there"
    return text


def table(results):
    """The results as Markdown."""
    lines = [f"{results['machine']['gpu']}; {results['machine']['system']}", ""]
    kernels = results.get("kernels")
    if kernels:
        lines += [f"Copies {kernels['bandwidth'] / 1e9:.0f} GB/s; " + ", ".join(f"{k} {v / 1e12:.1f} TFLOP/s" for k, v in kernels["peaks"].items()), ""]
        lines += ["| kernel | time | share |", "|---|---|---|"]
        for k in kernels["kernels"]:
            peak = next((v for name, v in kernels["peaks"].items() if name.lower() in k["name"]), None)
            if k["operations"] and peak:
                share = f"{100 * k['operations'] / k['seconds'] / peak:.0f}% of the peak"
            else:
                share = f"{100 * k['bytes'] / k['seconds'] / kernels['bandwidth']:.0f}% of copies"
            lines.append(f"| {k['name']} | {1e6 * k['seconds']:.1f} us | {share} |")
        lines.append("")
    if results["models"]:
        lines += ["| model | engine | best | median | error of the scale |", "|---|---|---|---|---|"]
    for model, engines in results["models"].items():
        for engine, r in engines.items():
            if "missing" in r:
                lines.append(f"| {model} | {engine} | {r['missing']} | | |")
                continue
            wrong = r["error"] is None or r["error"] > TOLERANCE.get(engine.removeprefix("graphc "), 1e-3)
            off = "unknown" if r["error"] is None else f"{r['error']:.1e}"
            lines.append(f"| {model} | {engine} | {r['best_ms']:.3f} ms | {r['median_ms']:.3f} ms | {off}{' (wrong)' if wrong else ''} |")
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--worker":
        return worker(sys.argv[2], pathlib.Path(sys.argv[3]), float(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, nargs="*", default=[], help="folders; none: kernels alone")
    parser.add_argument("--engines", nargs="*", choices=sorted(ENGINES), default=sorted(ENGINES))
    parser.add_argument("--device", type=int, default=0, help="number of graphc's GPU; the other engines take their first")
    parser.add_argument("--graphc", type=pathlib.Path, help="a program built for GPUs")
    parser.add_argument("--kernels", type=pathlib.Path, help="the program of the bench `kernels`, built elsewhere")
    parser.add_argument("--seconds", type=float, default=3.0, help="a model and engine")
    parser.add_argument("--small", action="store_true", help="sizes of a test")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/gpu")
    arguments = parser.parse_args()
    for folder in arguments.models:
        if not (folder / "saved_model").is_dir() or not (folder / "io_0.npz").is_file():
            parser.error(f"{folder} has no saved_model/ and io_0.npz")
    for program in filter(None, [arguments.graphc, arguments.kernels]):
        if not program.is_file():
            parser.error(f"{program} is not there")
    if arguments.graphc is None and arguments.models:
        subprocess.run(["cargo", "build", "--release", "--features", "gpu", "--package", "graphc"], cwd=ROOT, check=True)
        arguments.graphc = ROOT / "target/release/graphc"
    arguments.out.mkdir(parents=True, exist_ok=True)

    results = {"machine": machine(), "small": arguments.small, "models": {}}
    cargo = ["cargo", "bench", "--package", "graphc-gpu", "--features", "mlir", "--bench", "kernels", "--"]
    file = arguments.out / "kernels.json"
    words = ["--device", str(arguments.device), "--json", file.resolve(), *(["--small"] if arguments.small else [])]
    bench = subprocess.run([*([arguments.kernels] if arguments.kernels else cargo), *words], cwd=ROOT)
    if bench.returncode == 0:
        results["kernels"] = json.loads(file.read_text())
    else:
        print("kernels could not be measured", file=sys.stderr)

    for folder in arguments.models:
        engines = results["models"][folder.name] = {}
        for precision in PRECISIONS:
            engines[f"graphc {precision}"] = graphc_model(arguments, folder, precision)
        for engine in arguments.engines:
            words = [sys.executable, __file__, "--worker", engine, folder, str(arguments.seconds)]
            run = subprocess.run(words, capture_output=True, text=True)
            last = run.stdout.strip().splitlines()[-1:] or ['{"missing": "it ended without an answer"}']
            engines[engine] = json.loads(last[0])
        for engine, r in engines.items():
            print(f"{folder.name} {engine}: " + (r.get("missing") or f"{r['best_ms']:.3f} ms, error {r['error']}"), flush=True)

    (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "table.md").write_text(table(results))
    print(f"{arguments.out}/table.md")
    return 0 if bench.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
