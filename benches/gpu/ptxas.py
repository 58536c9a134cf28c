#!/usr/bin/env python3
"""Assembles the PTX of models with ptxas and records registers, spills and shared memory of each kernel.

    cargo build --release --features gpu && python benches/gpu/ptxas.py [--graphc PATH] [--ptxas PATH] [--models FOLDER ...] [--out FILE]

Without --ptxas, the wheel nvidia-cuda-nvcc-cu12 is installed into a virtual environment of its own. No GPU is needed. Ends with 1 if a
kernel does not assemble, or spills for sm_90a. The table that is kept is benches/gpu/ptxas.tsv.
"""
import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHITECTURES = ["sm_80", "sm_90a", "sm_100", "sm_120"]
PRECISIONS = ["f32", "tf32", "bf16"]
WHEEL = "nvidia-cuda-nvcc-cu12==12.9.86"


def install(folder):
    """The path of ptxas, from its wheel."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", WHEEL], check=True)
    found = sorted(folder.glob("lib/*/site-packages/nvidia/cuda_nvcc/bin/ptxas"))
    if not found:
        sys.exit(f"there is no ptxas in {WHEEL}")
    return found[0]


def assemble(ptxas, path, architecture):
    """What ptxas says of a kernel: registers, bytes spilled and of shared memory; or None and why it was refused."""
    run = subprocess.run(
        [ptxas, "--verbose", f"--gpu-name={architecture}", "--output-file=/dev/null", path], capture_output=True, text=True
    )
    if run.returncode:
        return None, run.stderr.strip()
    number = lambda pattern: sum(map(int, re.findall(pattern, run.stderr)))
    return (number(r"Used (\d+) registers"), number(r"(\d+) bytes spill"), number(r"(\d+) bytes smem")), ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphc", type=pathlib.Path, default=ROOT / "target/release/graphc")
    parser.add_argument("--ptxas", type=pathlib.Path, help="taken from PyPI if absent")
    parser.add_argument("--models", type=pathlib.Path, nargs="*", help="folders of SavedModels; the golden models if absent")
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--out", type=pathlib.Path, help="where the table goes; to standard output if absent")
    arguments = parser.parse_args()
    models = arguments.models or sorted(p for p in (ROOT / "tests/golden").iterdir() if (p / "saved_model").is_dir())
    if not arguments.graphc.is_file():
        sys.exit(f"{arguments.graphc} is not there: cargo build --release --features gpu, or --graphc PATH")

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ptxas = arguments.ptxas or install(folder / "venv")
        kernels = []
        for precision, model in ((p, m) for p in arguments.precision for m in models):
            into = folder / precision / model.name
            path = model / "saved_model" if (model / "saved_model").is_dir() else model
            words = [arguments.graphc, "opt", path, "--kernels", into, "--precision", precision]
            run = subprocess.run(words, capture_output=True, text=True)
            if run.returncode:
                print(f"{model.name}: {run.stderr.strip()}", file=sys.stderr)
            kernels += [(precision, model.name, p) for p in sorted(into.rglob("*.ptx")) if p.suffixes == [".ptx"]]
        jobs = [(path, architecture) for *_, path in kernels for architecture in ARCHITECTURES]
        # What one architecture has a kernel of its own for.
        own = lambda path, architecture: p if (p := path.with_suffix(f".{architecture}.ptx")).is_file() else path
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answers = dict(zip(jobs, pool.map(lambda job: assemble(ptxas, own(*job), job[1]), jobs)))
        version = re.search(r"release [\d.]+", subprocess.run([ptxas, "--version"], capture_output=True, text=True).stdout)

        lines = [f"# ptxas {version[0] if version else '?'}: registers/bytes spilled/bytes of shared memory"]
        lines.append("\t".join(["precision", "model", "kernel", *ARCHITECTURES]))
        bad = 0
        for precision, model, path in kernels:
            cells = []
            for architecture in ARCHITECTURES:
                numbers, why = answers[path, architecture]
                cells.append("/".join(map(str, numbers)) if numbers else "refused")
                bad += numbers is None or (architecture == "sm_90a" and numbers[1] > 0)
                if why:
                    print(f"{precision} {model} {path.name} {architecture}: {why}", file=sys.stderr)
            lines.append("\t".join([precision, model, path.stem, *cells]))
    text = "\n".join(lines) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")
    for architecture in ARCHITECTURES:
        numbers = [answers[path, architecture][0] for *_, path in kernels]
        good = [n for n in numbers if n]
        most = max((n[0] for n in good), default=0)
        print(f"{architecture}: {len(good)} of {len(numbers)} kernels assemble, {sum(n[1] > 0 for n in good)} spill, at most {most} registers", file=sys.stderr)
    sys.exit(1 if bad or not kernels else 0)


if __name__ == "__main__":
    main()
