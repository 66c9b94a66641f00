"""How often a rung is left out, by how it and the parameter count really rank; plays, trains nothing.

    python benchmarks/misleading_rungs.py

Losses are normal. Brackets of 27 networks promote their best nine; what is printed is the part of 200 played
studies in which ``fidelity.proxies.compare`` finds the rung worse than the parameter count. Under a minute.
"""

from __future__ import annotations

import math

import numpy as np

from fidelity.proxies import compare

STUDIES = 200
CASES = ((0.6, 0.4), (0.4, 0.2), (0.4, 0.4), (0.2, 0.2), (0.2, 0.4), (0.2, 0.6), (0.0, 0.4))


def correlated(y: np.ndarray, tau: float, rng: np.random.Generator) -> np.ndarray:
    """Normal losses with this tau to the losses ``y``."""
    r = math.sin(math.pi / 2 * tau)
    return r * y + math.sqrt(1 - r * r) * rng.normal(size=len(y))


def left_out(tau: float, size: float, brackets: int, rng: np.random.Generator) -> float:
    """The part of studies in which the rung is found worse after so many brackets."""
    found = []
    for _ in range(STUDIES):
        y = rng.normal(size=27 * brackets)
        x, z = correlated(y, tau, rng), correlated(y, size, rng)
        promoted = np.argsort(x.reshape(brackets, 27), axis=1)[:, :9] + 27 * np.arange(brackets)[:, None]
        chosen = promoted.ravel()
        found.append(compare(x[chosen], y[chosen], z[chosen], rng, x).worse)
    return float(np.mean(found))


def main() -> None:
    """Print the table as Markdown."""
    rng = np.random.default_rng(0)
    print("| tau of the rung | tau of size | left out after 3 brackets | after 6 |\n|---|---|---|---|")
    for tau, size in CASES:
        parts = [left_out(tau, size, brackets, rng) for brackets in (3, 6)]
        print(f"| {tau} | {size} | {parts[0]:.2f} | {parts[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
