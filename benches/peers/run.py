#!/usr/bin/env python3
"""Compares graphc with TensorFlow, XLA, ONNX Runtime, OpenVINO, LiteRT and tract on one machine; see README.md beside this file.

    python benches/peers/run.py                                       everything, into target/peers
    python benches/peers/run.py --models resnet50,mlp --engines graphc,openvino --threads 1 --batch 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engines
import environments
from bursts import Worker, WorkerError
from engines import ENGINES, Engine, Programs
from environments import ROOT, SetupError, note

GENERATED = "mlp small_cnn mobilenet_v2 mobilenet_v3_small efficientnet_b0 resnet50 bert_base minilm_l6 lstm_text".split()
FOLDERS = [ROOT / "tests" / "golden" / "basic_pitch"]
Record = dict[str, Any]


def arguments() -> argparse.Namespace:
    words = lambda text: [w for w in text.split(",") if w]
    numbers = lambda text: [int(w) for w in words(text)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", type=words, help=f"of {','.join(GENERATED)} and the names of folders (default: all)")
    add("--folder", type=Path, action="append", default=[], help="a further model: saved_model/ or graph.pb, io_0.npz, meta.json")
    add("--engines", type=words, help=f"of {','.join(ENGINES)} (default: all)")
    add("--graphc-engine", action="append", default=[], metavar="NAME=FLAGS", help="graphc… with flags of `graphc bench`")
    add("--threads", type=numbers, default=[1, 2])
    add("--batch", type=numbers, default=[1, 8])
    add("--rounds", type=int, default=5, help="bursts of each engine (default 5)")
    add("--seconds", type=float, default=0.5, help="length of a burst (default 0.5)")
    add("--starts", type=int, default=3, help="fresh processes that are timed to their first answer (default 3)")
    add("--work", type=Path, default=ROOT / "target" / "peers", help="where everything is kept for another time")
    add("--graphc", type=Path, help="the binary (default: this checkout's, built)")
    add("--again", action="store_true", help="measure what has figures already, too")
    add("--prepare", action="store_true", help="make and convert the models only")
    add("--out", type=Path, help="folder for table.md, results.json and chart.svg (default: the work folder)")
    add("--document", type=Path, help="a Markdown file with lines `<!-- figures -->`, `<!-- end of figures -->`")
    add("--report", action="store_true", help="write the tables and the chart of what was measured before; measure nothing")
    return parser.parse_args()


def refusals(folder: Path) -> dict[str, str]:
    """Files of a model that a converter does not write, with its reasons."""
    record = folder / "convert.json"
    return json.loads(record.read_text()) if record.exists() else {}


def is_prepared(folder: Path, batches: list[int]) -> bool:
    """Whether every file of a model is there, or known not to come."""
    refused = refusals(folder)
    files = ["model.onnx", "model.tflite", "openvino.xml", *(f"batch_{b}.npz" for b in batches)]
    return all(f in refused or (folder / f).exists() for f in files)


def prepare(name: str, work: Path, given: dict[str, Path], batches: list[int]) -> Path:
    """A model's folder with everything that engines read."""
    folder = work / "models" / name
    interpreter = environments.python(work, "tensorflow")
    if name in given:
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("saved_model", "graph.pb", "meta.json", "io_0.npz"):
            source, link = (given[name] / part).resolve(), folder / part
            if source.exists() and not link.exists():
                link.symlink_to(source)
        if not (folder / "meta.json").exists():
            (folder / "meta.json").write_text("{}\n")
    elif not (folder / "meta.json").exists():
        note(f"making {name}")
        environments.command(interpreter, environments.HERE / "models.py", work / "models", name)
    if is_prepared(folder, batches):
        return folder
    note(f"converting {name}")
    environments.command(interpreter, environments.HERE / "convert.py", folder, ",".join(map(str, batches)))
    environments.command(environments.python(work, "runtimes"), environments.HERE / "convert.py", "--openvino", folder)
    return folder


def worst_error(reference: Path, answers: Path) -> float:
    """The largest error of any output, relative to the largest value of that output.

    An answer is found by its name where one has it, else it is the closest one of its shape; an output without an answer, or one
    with NaN, has an infinite error.
    """
    import numpy as np

    from worker import plain

    def error(answer: np.ndarray, want: np.ndarray) -> float:
        scale = max(float(np.abs(want).max(initial=0)), 1e-30)
        largest = float(np.abs(answer.astype("f8") - want.astype("f8")).max(initial=0)) / scale
        return largest if largest == largest else float("inf")

    worst = 0.0
    with np.load(reference) as wanted, np.load(answers) as given:
        got = [(plain(name).removeprefix("out/"), given[name]) for name in given.files]
        for key in (k for k in wanted.files if k.startswith("out/")):
            want, name = wanted[key], plain(key.removeprefix("out/"))
            fitting = [(n, a) for n, a in got if a.shape == want.shape]
            named = [(n, a) for n, a in fitting if n == name]
            candidates = named if len(named) == 1 else fitting
            worst = max(worst, min((error(a, want) for _, a in candidates), default=float("inf")))
    return worst


class Group:
    """Engines on one model with one batch and number of threads, measured in turns."""

    def __init__(self, programs: Programs, folder: Path, batch: int, threads: int) -> None:
        self.programs, self.folder, self.batch, self.threads = programs, folder, batch, threads
        self.cpus = engines.first_cpus(threads)
        self.refused = refusals(folder)

    def start(self, engine: Engine) -> tuple[Worker | None, Record]:
        """A worker, and what is known of it so far; none if it fails."""
        if engine.file in self.refused:
            return None, {"error": f"not converted: {self.refused[engine.file]}"}
        outputs = self.programs.work / f"answers-{engine.name}.npz"
        outputs.unlink(missing_ok=True)
        command = engines.worker_command(engine, self.programs, self.folder, self.batch, self.threads, outputs)
        record: Record = {}
        try:
            worker = Worker(command, self.cpus)
        except WorkerError as error:
            if engine.environment != "tensorflow":
                return None, {"error": str(error)}
            record["note"] = "fails with oneDNN: without"
            try:
                worker = Worker(command, self.cpus, {"TF_ENABLE_ONEDNN_OPTS": "0"})
            except WorkerError:
                return None, {"error": str(error)}
        error = worst_error(self.folder / f"batch_{self.batch}.npz", outputs)
        outputs.unlink(missing_ok=True)
        record |= {"relative_error": error, "right": error <= engines.TOLERANCE[engine.precision]}
        return worker, record

    def measure(self, chosen: list[Engine], args: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Record]:
        """Figures of each engine by name."""
        workers: dict[str, Worker] = {}
        records: dict[str, Record] = {}
        first: dict[str, list[float]] = {}
        answer_ms = lambda start: start["load_ms"] + start["first_run_ms"] + start.get("compile_ms", 0)
        try:
            for repeat in range(max(1, args.starts)):
                for engine in chosen:
                    if "error" in records.get(engine.name, {}):
                        continue
                    progress(f"start {repeat + 1} of {engine.name}")
                    worker, record = self.start(engine)
                    records.setdefault(engine.name, record)
                    if worker is None:
                        records[engine.name] = record
                        continue
                    first.setdefault(engine.name, []).append(answer_ms(worker.figures.start))
                    if repeat + 1 < args.starts:
                        worker.close()
                    else:
                        workers[engine.name] = worker
            for turn in range(args.rounds):
                for name, worker in [(n, w) for n, w in workers.items() if not ENGINES[n].start_only]:
                    progress(f"burst {turn + 1} of {name}")
                    try:
                        worker.burst(args.seconds)
                    except WorkerError as error:
                        records[name]["error"] = str(error)
                        del workers[name]
            for name, worker in workers.items():
                figures, harness = worker.figures, int(worker.figures.start.get("harness_bytes", 0))
                if figures.best:
                    median = statistics.median(figures.median)
                    records[name] |= {"best_ms": min(figures.best), "median_ms": median, "runs": figures.runs}
                records[name] |= {
                    "first_answer_ms": min(first[name]),
                    "import_ms": figures.start.get("import_ms", 0.0),
                    "peak_bytes": worker.peak_bytes() - harness,
                    "harness_bytes": harness,
                    "file_bytes": environments.size(engines.model_file(ENGINES[name], self.folder).resolve())
                    + environments.size(self.folder / "openvino.bin") * name.startswith("openvino"),
                }
        finally:
            for worker in workers.values():
                worker.close()
        return records


def progress_line(prefix: str) -> Callable[[str], None]:
    """Shows what goes on in one line of a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r\x1b[K{prefix}: {text}", end="", file=sys.stderr, flush=True)


def summary(records: dict[str, Record]) -> str:
    cells = []
    for name, record in records.items():
        wrong = "" if record.get("right", True) else "!"
        cells.append(f"{name} {record['best_ms']:.3f}{wrong}" if "best_ms" in record else f"{name} -" if "error" in record else name)
    return ", ".join(cells)


def machine() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    args = arguments()
    args.work = args.work.resolve()
    os.environ.pop("GRAPHC_CACHE", None)
    args.work.mkdir(parents=True, exist_ok=True)
    interpreter = environments.python(args.work, "runtimes")
    if Path(sys.prefix).resolve() != interpreter.parent.parent.resolve():
        # The rest needs NumPy.
        os.execv(interpreter, [str(interpreter), *sys.argv])
    store = args.work / "results.json"
    results: Record = {"groups": {}, "versions": {}, "program_bytes": {}, "machine": machine()}
    if store.exists():
        results |= json.loads(store.read_text())
    import report

    engines.own_engines(args.graphc_engine)
    if args.report:
        return report.write(results, args.out or args.work, args.document)
    names = args.engines or list(ENGINES)
    if unknown := [n for n in names if n not in ENGINES]:
        raise SetupError(f"no engine is named {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    chosen = [ENGINES[n] for n in names]
    given = {folder.resolve().name: folder for folder in FOLDERS + args.folder}
    models = args.models or GENERATED + list(given)
    if unknown := [m for m in models if m not in GENERATED and m not in given]:
        raise SetupError(f"no model is named {', '.join(unknown)}; there are {', '.join(GENERATED + list(given))}")
    tract_wanted = "tract" in names and not args.prepare
    programs = Programs(args.work, environments.graphc(args.graphc), environments.tract(args.work) if tract_wanted else None)
    environments.python(args.work, "tensorflow")
    results |= {
        "machine": machine(),
        "versions": environments.versions(args.work),
        "program_bytes": environments.package_sizes(args.work)
        | {"graphc": environments.size(programs.graphc), "tract": environments.size(programs.tract or Path("/nonexistent"))},
    }
    for model in models:
        try:
            folder = prepare(model, args.work, given, args.batch)
        except SetupError as error:
            note(f"{model}: {error}")
            continue
        if args.prepare:
            continue
        if "graphc-ahead" in names:
            # Each time: a package is for the graphc that made it.
            environments.command(*engines.ahead_command(programs.graphc, folder))
        for batch in args.batch:
            if reason := refusals(folder).get(f"batch_{batch}.npz"):
                note(f"{model} does not take batch {batch}: {reason}")
                continue
            for threads in args.threads:
                key = f"{model}/{batch}/{threads}"
                done = results["groups"].get(key, {}).get("engines", {})
                if not args.again and all(n in done for n in names):
                    continue
                progress = progress_line(key)
                before = os.getloadavg()[0]
                records = Group(programs, folder, batch, threads).measure(chosen, args, progress)
                progress("")
                results["groups"][key] = {
                    "model": model,
                    "batch": batch,
                    "threads": threads,
                    "when": time.strftime("%Y-%m-%d %H:%M"),
                    "load_average": [before, os.getloadavg()[0]],
                    "engines": records,
                }
                store.write_text(json.dumps(results, indent=1) + "\n")
                note(f"\r{model}, batch {batch}, {threads} threads: {summary(records)}")
    if not args.prepare:
        report.write(results, args.out or args.work, args.document)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
