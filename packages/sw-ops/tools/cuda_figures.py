"""Print what nvcc makes of the CUDA kernels, a line for each: no GPU is needed.

python cuda_figures.py                  for compute capabilities 8.0 and 9.0
python cuda_figures.py 80 90 --json     others, as one JSON object

Registers and bytes of spills are ptxas's own figures, per thread. The rest is counted in the machine code of the
innermost loops that multiply: "spills in loops" are loads and stores of local memory, "slots per product" all
instructions, predicated ones included, for each multiply of a matrix unit (16x16x8) or fused multiply-add: what a
scheduler has to issue where nothing is skipped. Steps of half the depth (16x8x8), at a map's end, are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parents[1] / "csrc" / "cuda"
PRODUCT, HALF_PRODUCT = re.compile(r"\b(HMMA|FFMA2?)\b"), re.compile(r"\bHMMA\.1688\b")
LOCAL, JUMP = re.compile(r"\b(LDL|STL)\b"), re.compile(r"\bBRA(?:\.\w+)*\s+(?:\S+,\s*)?`?\(?\.?\w*?(0x[0-9a-f]+)")
COLUMNS = ("capability", "kernel", "registers", "spills", "spills in loops", "products", "slots per product")


def main() -> None:
    """Compile every source for every architecture and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("capabilities", nargs="*", default=["80", "90"])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if not shutil.which("nvcc"):
        sys.exit("cuda_figures: nvcc: got none in the PATH, want that of a CUDA toolkit")
    rows = [
        row
        for capability in options.capabilities
        for source in sorted(SOURCES.glob("*.cu"))
        for row in figures(source, capability)
    ]
    if options.json:
        print(json.dumps({"nvcc": _run("nvcc", "--version").strip().splitlines()[-1], "kernels": rows}, indent=2))
        return
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join("-" if row[c] is None else str(row[c]) for c in COLUMNS) + " |")


def figures(source: Path, capability: str) -> list[dict[str, Any]]:
    """Return a row per kernel of a source file."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        said = _run("nvcc", "-std=c++17", "-O3", "-cubin", f"-arch=sm_{capability}", "-Xptxas=-v", source, "-o", cubin)
        code = _run(_disassembler(), "-sass", cubin)
    rows = []
    for name, told in re.findall(r"Compiling entry function '(\w+)'.*?\n(.*?Used[^\n]*)", said, re.S):
        products, local, slots = _loops(code.split(f"Function : {name}\n")[1].split("Function : ")[0])
        rows.append(
            {
                "capability": capability,
                "kernel": _readable(name),
                "registers": int(re.findall(r"Used (\d+) registers", told)[0]),
                "spills": sum(int(n) for n in re.findall(r"(\d+) bytes spill", told)),
                "spills in loops": local,
                "products": products,
                "slots per product": round(slots / products, 2) if products else None,
            }
        )
    return rows


def _disassembler() -> str:
    """Return a CUDA toolkit's cuobjdump, or the one that comes with Triton, as PyTorch does on Linux."""
    with_triton = [
        Path(p) / "backends/nvidia/bin" for p in getattr(find_spec("triton"), "submodule_search_locations", [])
    ]
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path=os.pathsep.join(map(str, with_triton)))
    if found is None:
        sys.exit("cuda_figures: cuobjdump: got none in the PATH, want that of a CUDA toolkit or of Triton")
    return found


def _run(*command: str | Path) -> str:
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        sys.exit(f"cuda_figures: {command[0]} failed: {run.stdout.strip().splitlines()[-1]}")
    return run.stdout


def _readable(name: str) -> str:
    """Return ``convolve Mma bf16 64 32 1 64`` and the like from a mangled name: kernel, engine, type, sizes."""
    return " ".join(
        {"13__nv_bfloat16": "bf16", "6__half": "f16"}.get(part, part.removeprefix("Li"))
        for part in re.findall(
            r"convolve(?=I)|backward(?=I)|correlate(?=I)|add_partial_sums(?=I)|Fma|Mma|13__nv_bfloat16|6__half|Li\d+",
            name,
        )
    )


def _loops(code: str) -> tuple[int, int, int]:
    """Return products, accesses of local memory and all instructions of the innermost loops that have products."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", code)
    place = {int(address, 16): i for i, (address, _) in enumerate(lines)}
    texts = [text for _, text in lines]
    jumps = {
        i: place[int(to[1], 16)]
        for i, text in enumerate(texts)
        if (to := JUMP.search(text)) and int(to[1], 16) in place
    }
    loops = [(to, i) for i, to in jumps.items() if to < i and any(PRODUCT.search(text) for text in texts[to : i + 1])]
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    begins = sorted({0, *jumps.values(), *(i + 1 for i in jumps)})
    counted: list[str] = []
    for first, last in inner:
        for begin, end in zip(begins, [*begins[1:], len(texts)], strict=True):
            block = texts[max(begin, first) : min(end, last + 1)]
            if not any(HALF_PRODUCT.search(text) for text in block):
                counted += block
    return (
        sum(bool(PRODUCT.search(text)) for text in counted),
        sum(bool(LOCAL.search(text)) for text in counted),
        len(counted),
    )


if __name__ == "__main__":
    main()
