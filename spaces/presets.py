"""What may be wired in a cell, and the published choices of it, one entry each; knows no networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spaces.cell_operations import OPERATIONS
from spaces.checking import MOST, checked_names, is_whole

INPUTS = ("two", "pair", "any")
COMBINE = ("add", "concat")
OUTPUTS = ("loose", "all")


@dataclass(frozen=True, slots=True)
class Design:
    """A family of cells: what a normal and a reduction cell may be made of.

    A cell's *states* are its two inputs, 0 the cell before the previous one and 1 the previous cell, and
    the outputs of its blocks, from 2 on.

    Raises:
        ValueError: if a setting is of the wrong kind, unknown or given twice.
    """

    blocks: int
    """How many blocks there are in a cell."""
    operations: tuple[str, ...]
    """What may stand on an edge; names of :data:`spaces.cell_operations.OPERATIONS`."""
    inputs: str = "two"
    """``two``: a block applies two operations to two earlier states, which may be the same one; ``pair``:
    to two different ones; ``any``: one operation to each earlier state, ``none`` leaves it out."""
    combine: tuple[str, ...] = ("add",)
    """How a block joins its operations; ``concat`` is followed by a 1×1 convolution back to the cell's
    channels. Several are searched."""
    outputs: str = "loose"
    """Which blocks the cell's output concatenates: those that no block reads, or all."""
    shortcut: bool = False
    """Whether a normal cell's output holds its input 0 too."""
    base: bool = False
    """Whether input 1 passes a second 1×1 convolution."""

    def __post_init__(self) -> None:
        if not is_whole(self.blocks) or self.blocks > MOST:
            raise ValueError(f"blocks={self.blocks!r}: must be a whole number from 1 to {MOST}.")
        # NumPy's numbers are none to JSON, and what was read from JSON brings lists.
        for name, kind in (("blocks", int), ("shortcut", bool), ("base", bool)):
            if isinstance(getattr(self, name), np.generic):
                object.__setattr__(self, name, kind(getattr(self, name)))
        object.__setattr__(
            self, "operations", checked_names("operations", self.operations, tuple(OPERATIONS))
        )
        object.__setattr__(self, "combine", checked_names("combine", self.combine, COMBINE))
        if self.operations == ("none",):
            raise ValueError("operations=['none']: nothing would reach the output. Add another operation.")
        for name, value, known in (
            ("inputs", self.inputs, INPUTS),
            ("outputs", self.outputs, OUTPUTS),
            ("shortcut", self.shortcut, (False, True)),
            ("base", self.base, (False, True)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}: is not known. Use one of {list(known)}.")

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-ready."""
        return asdict(self) | {"operations": list(self.operations), "combine": list(self.combine)}


PRESETS: Mapping[str, Design] = {
    # Zoph et al. 2018, arXiv:1707.07012, section 3: 13 operations, add or concatenate. The authors' code
    # (tensorflow/models, nasnet_utils.py) keeps the normal cell's input 0 in its output.
    "nasnet": Design(
        blocks=5,
        operations=(
            "skip_connect",
            "conv_3x1_1x3",
            "conv_7x1_1x7",
            "conv_3x3_dilated",
            "avg_pool_3x3",
            "max_pool_3x3",
            "max_pool_5x5",
            "max_pool_7x7",
            "conv_1x1",
            "conv_3x3",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "sep_conv_7x7",
        ),
        combine=("add", "concat"),
        shortcut=True,
    ),
    # Pham et al. 2018, arXiv:1802.03268, section 2.4: the micro search space. The authors' code
    # (melodyguan/enas, micro_child.py, layer_base) convolves the previous cell's output twice.
    "enas": Design(
        blocks=5,
        operations=("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "skip_connect"),
        base=True,
    ),
    # Liu et al. 2019, arXiv:1806.09055, section 3.1: final cells keep the two strongest inputs of each
    # node, none excluded; inputs="any" and none among the operations are the space before that choice.
    "darts": Design(
        blocks=4,
        operations=(
            "max_pool_3x3",
            "avg_pool_3x3",
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "dil_conv_3x3",
            "dil_conv_5x5",
        ),
        inputs="pair",
        outputs="all",
    ),
    # Real et al. 2019, arXiv:1802.01548, section "Search space": NASNet's with 8 operations, added.
    "amoebanet": Design(
        blocks=5,
        operations=(
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "sep_conv_7x7",
            "avg_pool_3x3",
            "max_pool_3x3",
            "dil_conv_3x3",
            "conv_7x1_1x7",
        ),
    ),
}
