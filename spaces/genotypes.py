"""Published cells, one entry each, with the macro-architecture and the size they were published at.

Knows no networks: a genotype is params of a preset's space, and that space builds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spaces.presets import PRESETS

if TYPE_CHECKING:
    from spaces.space import Space

Term = tuple[str, int]
"""(operation, state it is applied to): 0 the cell before the previous one, 1 the previous, 2, … blocks."""
Blocks = tuple[tuple[Term, Term], ...]


@dataclass(frozen=True, slots=True)
class Genotype:
    """A published pair of cells."""

    preset: str
    normal: Blocks
    reduction: Blocks
    macro: Mapping[str, Any]
    """``filters``, ``cells`` and ``reductions`` of the network it was published with."""
    parameters: float
    """Of that network on CIFAR-10, as published."""
    source: str

    @property
    def params(self) -> dict[str, Any]:
        """The genotype as a configuration of :meth:`space`."""
        design = PRESETS[self.preset]
        params: dict[str, Any] = {}
        for cell, blocks in (("normal", self.normal), ("reduction", self.reduction)):
            for number, terms in enumerate(blocks, start=2):
                at = f"{cell}_block{number}"
                if design.inputs == "pair":
                    (first, a), (second, b) = sorted(terms, key=lambda term: term[1])
                    if number > 2:  # the first block has no choice
                        params[f"{at}_inputs"] = f"{a},{b}"
                else:
                    (first, a), (second, b) = terms
                    params |= {f"{at}_input_a": a, f"{at}_input_b": b}
                params |= {f"{at}_op_a": first, f"{at}_op_b": second}
                if len(design.combine) > 1:
                    params[f"{at}_combine"] = "add"
        return params

    def space(
        self, input_shape: tuple[int, int, int] = (3, 32, 32), n_classes: int = 10, **macro: Any
    ) -> Space:
        """The preset's space at the published macro-architecture, or at the one given.

        ``genotype.space().build(genotype.params)`` is the published network.
        """
        from spaces.cells import cell

        return cell(self.preset, input_shape, n_classes, **{**self.macro, **macro})


# Abbreviations of this file.
_SKIP, _AVG, _MAX = "skip_connect", "avg_pool_3x3", "max_pool_3x3"
_SEP3, _SEP5, _SEP7, _DIL3 = "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3"

_TWENTY_CELLS = {"filters": 36, "cells": 6, "reductions": 2}

GENOTYPES: Mapping[str, Genotype] = {
    "DARTS_V1": Genotype(
        preset="darts",
        normal=(
            ((_SEP3, 1), (_SEP3, 0)),
            ((_SKIP, 0), (_SEP3, 1)),
            ((_SKIP, 0), (_SEP3, 1)),
            ((_SEP3, 0), (_SKIP, 2)),
        ),
        reduction=(
            ((_MAX, 0), (_MAX, 1)),
            ((_SKIP, 2), (_MAX, 0)),
            ((_MAX, 0), (_SKIP, 2)),
            ((_SKIP, 2), (_AVG, 0)),
        ),
        macro=_TWENTY_CELLS,
        parameters=3_169_414,
        source="Liu et al. 2019, arXiv:1806.09055, first order; cells in quark0/darts, cnn/genotypes.py",
    ),
    "DARTS_V2": Genotype(
        preset="darts",
        normal=(
            ((_SEP3, 0), (_SEP3, 1)),
            ((_SEP3, 0), (_SEP3, 1)),
            ((_SEP3, 1), (_SKIP, 0)),
            ((_SKIP, 0), (_DIL3, 2)),
        ),
        reduction=(
            ((_MAX, 0), (_MAX, 1)),
            ((_SKIP, 2), (_MAX, 1)),
            ((_MAX, 0), (_SKIP, 2)),
            ((_SKIP, 2), (_MAX, 1)),
        ),
        macro=_TWENTY_CELLS,
        parameters=3_349_342,
        source="Liu et al. 2019, arXiv:1806.09055, second order, figures 4 and 5; quark0/darts",
    ),
    "AMOEBANET_A": Genotype(
        preset="amoebanet",
        normal=(
            ((_AVG, 0), (_MAX, 1)),
            ((_SEP3, 0), (_SEP5, 2)),
            ((_SEP3, 0), (_AVG, 3)),
            ((_SEP3, 1), (_SKIP, 1)),
            ((_SKIP, 0), (_AVG, 1)),
        ),
        reduction=(
            ((_AVG, 0), (_SEP3, 1)),
            ((_MAX, 0), (_SEP7, 2)),
            ((_SEP7, 0), (_AVG, 1)),
            ((_MAX, 0), (_MAX, 1)),
            (("conv_7x1_1x7", 0), (_SEP3, 5)),
        ),
        macro=_TWENTY_CELLS,
        parameters=3_145_078,
        source="Real et al. 2019, arXiv:1802.01548, figure 5; size as counted by quark0/darts",
    ),
    "NASNET_A": Genotype(
        preset="nasnet",
        normal=(
            ((_SEP5, 1), (_SEP3, 0)),
            ((_SEP5, 0), (_SEP3, 0)),
            ((_AVG, 1), (_SKIP, 0)),
            ((_AVG, 0), (_AVG, 0)),
            ((_SEP3, 1), (_SKIP, 1)),
        ),
        reduction=(
            ((_SEP5, 1), (_SEP7, 0)),
            ((_MAX, 1), (_SEP7, 0)),
            ((_AVG, 1), (_SEP5, 0)),
            ((_SKIP, 3), (_AVG, 2)),
            ((_SEP3, 2), (_MAX, 1)),
        ),
        # 6 @ 768: six cells a stage, and 768 = 6 · 4 · 32 channels before the classifier.
        macro={"filters": 32, "cells": 6, "reductions": 2},
        parameters=3.3e6,
        source="Zoph et al. 2018, arXiv:1707.07012, figure 4, table 1: NASNet-A (6 @ 768)",
    ),
    "ENAS": Genotype(
        preset="enas",
        normal=(
            ((_AVG, 0), (_SEP3, 0)),
            ((_SKIP, 0), (_SEP5, 0)),
            ((_SKIP, 0), (_SEP5, 1)),
            ((_SEP3, 1), (_SEP5, 0)),
            ((_AVG, 0), (_SEP5, 1)),
        ),
        reduction=(
            ((_SEP3, 1), (_SEP3, 1)),
            ((_MAX, 0), (_AVG, 0)),
            ((_SEP5, 1), (_SEP5, 3)),
            ((_SEP3, 1), (_SKIP, 0)),
            ((_MAX, 0), (_SEP5, 1)),
        ),
        # The published script has five cells a stage and 3.9 million; six give the paper's 4.6 million.
        macro={"filters": 36, "cells": 6, "reductions": 2},
        parameters=4.6e6,
        source="Pham et al. 2018, arXiv:1802.03268, table 2, micro search space; cells in melodyguan/enas, "
        "scripts/cifar10_micro_final.sh",
    ),
}
