"""The engines that are compared: which precision each computes in, which file it reads, and the command of its worker."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Engine:
    """An engine as users run it."""

    name: str
    title: str
    precision: str
    # The file of a model's folder that it reads.
    file: str
    # The virtual environment of its worker; None for a program of its own.
    environment: str | None
    # Further arguments of a graphc binary; `{work}` stands for the folder where everything is kept.
    flags: tuple[str, ...] = ()
    # Whether only its start is of interest.
    start_only: bool = False


ENGINES: dict[str, Engine] = {
    e.name: e
    for e in (
        Engine("tensorflow", "TensorFlow", "f32", "saved_model", "tensorflow"),
        Engine("xla", "XLA", "f32", "saved_model", "tensorflow"),
        Engine("onnxruntime", "ONNX Runtime", "f32", "model.onnx", "runtimes"),
        Engine("openvino", "OpenVINO", "f32", "openvino.xml", "runtimes"),
        Engine("litert", "LiteRT", "f32", "model.tflite", "runtimes"),
        Engine("tract", "tract", "f32", "model.onnx", None),
        Engine("graphc", "graphc", "f32", "saved_model", None),
        Engine("graphc-cached", "graphc, from its cache", "f32", "saved_model", None, ("--cache", "{work}/cache"), start_only=True),
        # Compiled as the converters of other engines compile: before it is measured.
        Engine("graphc-ahead", "graphc, compiled ahead", "f32", "model.graphc", None, start_only=True),
        Engine("openvino-bf16", "OpenVINO", "bf16", "openvino.xml", "runtimes"),
    )
}

# Largest error, relative to the largest value of an output, of an answer that counts as right.
TOLERANCE = {"f32": 1e-3, "bf16": 0.5}


@dataclass
class Programs:
    """Where the programs of a comparison lie."""

    work: Path
    graphc: Path
    tract: Path | None


def own_engines(pairs: list[str]) -> None:
    """Adds engines `graphc-NAME=FLAGS`: graphc with further arguments of `graphc bench`; a name with `bf16` in it computes in bf16."""
    for pair in pairs:
        name, _, flags = pair.partition("=")
        precision = "bf16" if "bf16" in name else "f32"
        ENGINES[name] = dataclasses.replace(
            ENGINES["graphc"], name=name, title=name.replace("-bf16", ""), precision=precision, flags=tuple(flags.split())
        )


def model_file(engine: Engine, folder: Path) -> Path:
    """The file of a model that an engine reads."""
    if engine.file == "saved_model" and (folder / "graph.pb").exists():
        return folder / "graph.pb"
    return folder / engine.file


def first_cpus(count: int) -> set[int]:
    """The processors that engines with so many threads run on."""
    return set(sorted(os.sched_getaffinity(0))[:count])


def model_words(folder: Path) -> list[str]:
    """The arguments of a graphc command that name a model and its function."""
    graph, meta_file = folder / "graph.pb", folder / "meta.json"
    meta = json.loads(meta_file.read_text()) if meta_file.exists() else {}
    if graph.exists():
        return [str(graph), "--feed", ",".join(meta["frozen_inputs"]), "--fetch", ",".join(meta["frozen_outputs"])]
    return [str(folder / "saved_model"), *(["--signature", meta["signature"]] if "signature" in meta else [])]


def graphc_command(
    binary: Path, folder: Path, batch: int, threads: int, further: tuple[str, ...] = (), package: Path | None = None
) -> list[str]:
    """The command of a graphc binary that answers bursts on a model, or on a package that was made of it."""
    prepared = folder / f"batch_{batch}.npz"
    inputs = prepared if prepared.exists() or batch != 1 else folder / "io_0.npz"
    words: list[str | Path | int] = [binary, "bench", *([package] if package else model_words(folder))]
    words += ["--interactive", "--input", inputs, "--threads", threads, *further]
    return [str(w) for w in words]


def ahead_command(binary: Path, folder: Path) -> list[str]:
    """The command that compiles a model to the package of `graphc-ahead`."""
    return [str(binary), "compile", *model_words(folder), "--output", str(folder / ENGINES["graphc-ahead"].file)]


def worker_command(engine: Engine, programs: Programs, folder: Path, batch: int, threads: int, outputs: Path) -> list[str]:
    """The command of a worker: it loads, answers once, writes its outputs, then reads the lengths of bursts from its standard input."""
    inputs = folder / f"batch_{batch}.npz"
    if engine.environment is not None:
        interpreter = programs.work / engine.environment / "bin" / "python"
        words: list[str | Path | int] = [interpreter, HERE / "worker.py", engine.name, folder, inputs, threads, outputs]
    elif engine.name == "tract":
        words = [programs.tract or "tract_worker", folder / engine.file, inputs, threads, outputs]
    else:
        flags = (flag.replace("{work}", str(programs.work)) for flag in engine.flags)
        package = folder / engine.file if engine.file.endswith(".graphc") else None
        return graphc_command(programs.graphc, folder, batch, threads, ("--output", str(outputs), *flags), package)
    return [str(w) for w in words]
