"""Published cells at their published macro-architectures: sizes as printed and as built; knows no search.

Run from the repository's root, a few seconds::

    python benchmarks/published_networks.py

Builds every network, compares its parameters with the count, and writes
``benchmarks/results/published_networks.md``.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path

from spaces.genotypes import GENOTYPES

RESULTS = Path(__file__).parent / "results" / "published_networks.md"

NOTES = {
    "DARTS_V1": "exact",
    "DARTS_V2": "exact",
    "AMOEBANET_A": "exact, at DARTS's 36 filters and 20 cells; the paper prints 3.2 M for N = 6, F = 36",
    "NASNET_A": "printed with two digits; here as in the authors' code each normal cell's output holds the "
    "cell's input 0, without that 3.06 M",
    "ENAS": "printed with two digits; here as in the authors' code input 1 passes two 1×1 convolutions, "
    "without that 4.39 M; the code's script has five cells a stage, 3.89 M, six give the printed size",
}


def main() -> int:
    """Prints the table; 1 if a built network and its count differ, or an exact size is missed."""
    rows = [
        "| cells | filters | cells a stage | published | here | difference | MACs | |",
        "|---|" + "--:|" * 6 + "---|",
    ]
    wrong = 0
    for name, genotype in GENOTYPES.items():
        space = genotype.space((3, 32, 32), 10)
        count = space.count(genotype.params)
        built = sum(p.numel() for p in space.build(genotype.params).parameters())
        exact = isinstance(genotype.parameters, int)
        wrong += built != count.parameters or (exact and built != genotype.parameters)
        published = f"{genotype.parameters:,}" if exact else f"{genotype.parameters / 1e6:.1f} M"
        difference = count.parameters / genotype.parameters - 1
        rows.append(
            f"| {name} | {genotype.macro['filters']} | {genotype.macro['cells']} | {published} "
            f"| {count.parameters:,} | {difference:+.1%} | {count.macs / 1e6:.0f} M | {NOTES[name]} |"
        )
    table = "\n".join(rows)
    print(table)
    conditions = (
        f"CIFAR-10: 3×32×32, 10 classes, two reductions, no auxiliary head. `count` equals the parameters of "
        f"the built module for each. Python {platform.python_version()}, torch {version('torch')}. "
        "`python benchmarks/published_networks.py`"
    )
    sources = "\n".join(f"- {name}: {genotype.source}" for name, genotype in GENOTYPES.items())
    RESULTS.write_text(f"# Sizes of published networks\n\n{table}\n\n{conditions}\n\n{sources}\n", "utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
