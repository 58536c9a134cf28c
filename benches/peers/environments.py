"""What a comparison runs in: two virtual environments, the worker for tract, and the graphc binary. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent

# tf_keras comes without its dependencies: they would pull in another TensorFlow. It serves models that Keras 2 saved.
PACKAGES: dict[str, list[list[str]]] = {
    "tensorflow": [["tensorflow-cpu==2.21.0", "tf2onnx"], ["--no-deps", "tf_keras"]],
    "runtimes": [["numpy", "onnxruntime", "openvino", "ai-edge-litert"]],
}


class SetupError(Exception):
    """A step of the preparation failed; the message says which, and how."""


def note(text: str) -> None:
    """A line of progress, where somebody watches it."""
    print(text, file=sys.stderr, flush=True)


def command(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a command and gives its output.

    Raises SetupError with the end of what it wrote if it fails.
    """
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise SetupError(f"{words[0]} {' '.join(str(w) for w in words[1:4])} … failed:\n" + "\n".join(lines[-12:]))
    return done


def python(work: Path, environment: str) -> Path:
    """The interpreter of a virtual environment, which is made if it is not there."""
    folder = work / environment
    interpreter, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        note(f"installing {', '.join(p for step in PACKAGES[environment] for p in step if not p.startswith('-'))} into {folder}")
        command(sys.executable, "-m", "venv", folder)
        for step in PACKAGES[environment]:
            command(interpreter, "-m", "pip", "install", "--quiet", *step)
        done.touch()
    return interpreter


def versions(work: Path) -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for environment in PACKAGES:
        for line in command(work / environment / "bin" / "python", "-m", "pip", "freeze").stdout.splitlines():
            name, _, version = line.partition("==")
            if name.replace("_", "-") in ("tensorflow-cpu", "tf2onnx", "onnxruntime", "openvino", "ai-edge-litert"):
                found[name.replace("_", "-")] = version
    lock = HERE / "tract" / "Cargo.lock"
    lines = lock.read_text().splitlines() if lock.exists() else []
    for name, version in zip(lines, lines[1:]):
        if name == 'name = "tract-onnx"':
            found["tract"] = version.split('"')[1]
    return found


def tract(work: Path) -> Path:
    """The worker for tract, which is built if need be."""
    folder = work / "tract"
    note("building the worker for tract")
    command("cargo", "build", "--release", "--manifest-path", HERE / "tract" / "Cargo.toml", "--target-dir", folder)
    return folder / "release" / "tract_worker"


def graphc(given: Path | None) -> Path:
    """The graphc binary: the one that is named, else this checkout's, which is built if need be."""
    if given is not None:
        if shutil.which(given) is None:
            raise SetupError(f"{given} is no program")
        return given.resolve()
    note("building graphc as users get it")
    command(ROOT / "packaging" / "dist.sh", cwd=ROOT)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "dist" / "graphc"


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def package_sizes(work: Path) -> dict[str, int]:
    """Bytes that each peer's packages take on disk, without NumPy and Python."""
    folders = {
        "tensorflow": ("tensorflow", ["tensorflow"]),
        "onnxruntime": ("runtimes", ["onnxruntime"]),
        "openvino": ("runtimes", ["openvino"]),
        "litert": ("runtimes", ["ai_edge_litert"]),
    }
    sizes = {}
    for engine, (environment, packages) in folders.items():
        for site in (work / environment / "lib").glob("python*/site-packages"):
            sizes[engine] = sum(size(site / p) for p in packages)
    return sizes
