"""Cell-structured networks: searched cells repeated in a macro-architecture; knows no training."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spaces import cell_batches
from spaces.cell_operations import OPERATIONS, factorized_reduction, relu_conv_norm
from spaces.cell_wiring import INPUTS, Live, choices, wiring
from spaces.checking import checked_classes, checked_fraction, checked_shape, probability
from spaces.counting import Count, count_graph
from spaces.graph import INPUT, Graph, Sketch, scaled
from spaces.macros import STEMS, Macro, Shape, State
from spaces.nas_bench_201 import NasBench201
from spaces.presets import PRESETS, Design

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray

    from spaces.drawing import Picture
    from spaces.space import Space

CELLS = ("normal", "reduction")
_KEPT = 4096  # cells whose key and features are remembered


def cell(
    preset: str | None = "nas_bench_201",
    input_shape: tuple[int, int, int] = (3, 32, 32),
    n_classes: int = 10,
    *,
    filters: int | Sequence[int] | None = None,
    cells: int | Sequence[int] | None = None,
    reductions: int | Sequence[int] | None = None,
    stem: str | Sequence[str] | None = None,
    **design: Any,
) -> Space:
    """A space of image classifiers made of searched cells, repeated.

    ``nas_bench_201`` has one cell: hyperparameters ``edge0`` … ``edge5``, each one of ``none``,
    ``skip_connect``, ``nor_conv_1x1``, ``nor_conv_3x3``, ``avg_pool_3x3``, and three stages of ``cells``
    cells with fixed residual blocks between them that halve the picture and double the filters.

    ``nasnet``, ``enas``, ``darts`` and ``amoebanet`` have a normal cell, which keeps the picture's size, and
    a reduction cell, which halves it and doubles the filters. ``reductions`` reduction cells separate stages
    of ``cells`` normal ones. Cells read the two cells before them, states 0 and 1, and consist of blocks,
    states 2, 3, …; a block joins operations applied to earlier states. Hyperparameters, for ``normal`` and
    ``reduction``: ``normal_block{j}_input_a``, ``_op_a``, ``_input_b``, ``_op_b`` and, where it is searched,
    ``_combine``; with ``inputs="pair"`` (``darts``) ``normal_block{j}_inputs``, a text such as ``"0,2"``, in
    place of the two inputs; with ``inputs="any"`` ``normal_edge{j}_{i}``, the operation on the way from state
    i to block j. See :data:`spaces.presets.PRESETS` for what each preset holds, and
    :data:`spaces.genotypes.GENOTYPES` for published cells.

    What a list or tuple is given for among ``filters``, ``cells``, ``reductions`` and ``stem`` is searched
    too, as a hyperparameter of that name; the reduction cell is active while there are reductions. Width
    scales the filters, depth the cells of a stage. Training hyperparameters the network itself reads:
    ``dropout`` before the classifier and, except in ``nas_bench_201``, ``drop_path`` after every operation
    but the identity.

    Args:
        preset: which cell; None for one of your own, which takes ``blocks`` and ``operations``.
        input_shape: (channels, height, width) of one image.
        n_classes: how many classes there are; 1 for a number to predict.
        filters: channels of the first stage's operations; default 16.
        cells: normal cells of a stage; default 2, in ``nas_bench_201`` 5.
        reductions: reduction cells; default 2.
        stem: ``conv`` (the default), ``conv_stride2``, ``imagenet`` (three strided convolutions).
        **design: settings of :class:`spaces.presets.Design` to use in place of the preset's: ``blocks``,
            ``operations``, ``inputs``, ``combine``, ``outputs``, ``shortcut``, ``base``. With
            ``inputs="any"`` the operations begin with ``none`` unless they are given.

    Raises:
        ValueError: on an unknown preset, setting or operation, a name or value given twice, no classes,
            filters that cannot be halved, or a picture too small for the reductions.
    """
    from spaces.space import Space

    if preset == "nas_bench_201":
        more = [name for name, value in (("reductions", reductions), ("stem", stem)) if value is not None]
        if more or design:
            raise ValueError(
                f"{(more + list(design))[0]}: preset 'nas_bench_201' has filters and cells only. "
                f"Use one of {list(PRESETS)}, or preset=None with blocks and operations."
            )
        return Space._of(
            NasBench201(
                input_shape=input_shape,
                n_classes=n_classes,
                filters=16 if filters is None else filters,  # type: ignore[arg-type]
                cells=5 if cells is None else cells,  # type: ignore[arg-type]
            )
        )
    macro = Macro(
        filters=16 if filters is None else filters,  # type: ignore[arg-type]
        cells=2 if cells is None else cells,  # type: ignore[arg-type]
        reductions=2 if reductions is None else reductions,  # type: ignore[arg-type]
        stem="conv" if stem is None else stem,  # type: ignore[arg-type]
    )
    made = _design(preset, design)
    return Space._of(Cell(input_shape=input_shape, n_classes=n_classes, design=made, macro=macro))


def _design(preset: str | None, changes: Mapping[str, Any]) -> Design:
    known = [field.name for field in dataclasses.fields(Design)]
    for name in changes:
        if name not in known:
            raise ValueError(f"{name}={changes[name]!r}: cells have no such setting. Use some of {known}.")
    if preset is None:
        for name in ("blocks", "operations"):
            if name not in changes:
                raise ValueError(
                    f"preset=None: {name} is missing. Give blocks=4 and operations=['sep_conv_3x3', "
                    "'skip_connect'], say, or a preset."
                )
        return Design(**changes)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(
            f"preset={preset!r}: is not known. Use one of {['nas_bench_201', *PRESETS]}, "
            "or None with blocks and operations."
        )
    given = dict(changes)
    if given.get("inputs") == "any" and "operations" not in given:
        given["operations"] = ("none", *PRESETS[preset].operations)
    return dataclasses.replace(PRESETS[preset], **given)


class _Part(NamedTuple):
    """What of a cell is built, and what follows from that."""

    live: Live
    reads: tuple[bool, bool]
    ops: tuple[tuple[tuple[str, int], int], ...]
    """((operation, stride), how often), in all blocks."""
    joins: tuple[int, ...]
    """For each block that concatenates, how many operations."""


class _Configured:
    """One cell of a configuration, with what has been found out about it."""

    def __init__(self, design: Design, reduction: bool, params: Mapping[str, Any]) -> None:
        self.design, self.reduction = design, reduction
        self.wiring = wiring(design, CELLS[reduction], params)
        self.shortcut = design.shortcut and not reduction
        self._parts: dict[tuple[bool, bool] | None, _Part] = {}

    def part(self, inputs: tuple[bool, bool] | None) -> _Part:
        """What is built if those of the cell's inputs carry anything; None: everything."""
        if inputs not in self._parts:
            if inputs is None:
                live, reads = self.wiring.whole(self.design, self.shortcut), (True, True)
            else:
                live = self.wiring.live(self.design, inputs, self.shortcut)
                reads = (live.reads(0), live.reads(1))
            ops = [edge.op for edge in live.edges]
            counts = Counter(zip(ops, live.strides(self.reduction), strict=True))
            joins = tuple(len(e) for block, e in live.blocks() if live.combine[block - 2] == "concat")
            self._parts[inputs] = _Part(live, reads, tuple(counts.items()), joins)
        return self._parts[inputs]

    @functools.cached_property
    def key(self) -> str:
        return self.part((True, True)).live.key(self.reduction)


class _Placed(NamedTuple):
    """A cell of the network."""

    part: _Part
    reduction: bool
    stage: int
    wanted: bool
    """Whether the network's output depends on it."""


class _Plan(NamedTuple):
    """Which cells stand where."""

    cells: tuple[_Placed, ...]
    stem: tuple[bool, bool]
    """Whether the first cells read what the stem gives as input 0, and as input 1."""
    carries: bool
    """Whether anything of the picture reaches the output."""

    @property
    def reduces(self) -> bool:
        """Whether the output depends on a reduction cell."""
        return any(placed.wanted and placed.reduction for placed in self.cells)


class Cell:
    """The family of networks behind :func:`cell`, which documents the arguments.

    The network is the one with which DARTS evaluates cells (Liu et al. 2019; quark0/darts, model.py): a
    stem; cells that bring both of their inputs to their own channels and size by 1×1 convolutions, after a
    reduction by a factorized one; global average pooling and a linear classifier. Reductions stand where
    stages meet, so at a third and two thirds of the depth if there are two.
    """

    kind = "cell"
    reads = ("dropout", "drop_path")
    reserved = frozenset(Shape._fields)

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        n_classes: int,
        design: Design | Mapping[str, Any],
        macro: Macro | Mapping[str, Any],
    ) -> None:
        self.input_shape = checked_shape(input_shape)
        self.n_classes = checked_classes(n_classes)
        self.design = design if isinstance(design, Design) else Design(**design)
        self.macro = macro if isinstance(macro, Macro) else Macro(**macro)
        self.macro.fits(self.input_shape)
        self._names = {name: tuple(c.name for c in choices(self.design, name)) for name in CELLS}
        self._costs: dict[Any, Count] = {}
        self._configured = functools.lru_cache(maxsize=_KEPT)(self._configure)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Cell, **self.to_dict()), ()

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-ready."""
        return {
            "input_shape": list(self.input_shape),
            "n_classes": self.n_classes,
            "design": self.design.to_dict(),
            "macro": self.macro.to_dict(),
        }

    def configuration_space(self) -> ConfigurationSpace:
        """What is searched of the macro-architecture, and categorical hyperparameters of both cells."""
        import ConfigSpace

        macro: dict[str, Any] = {}
        for name in self.macro.searched():
            values = list(getattr(self.macro, name))
            if name == "stem":
                macro[name] = ConfigSpace.CategoricalHyperparameter(name, values, default_value=values[0])
            else:
                middle = values[(len(values) - 1) // 2]
                macro[name] = ConfigSpace.OrdinalHyperparameter(name, values, default_value=middle)
        parts = list(macro.values())
        reduced = [value for value in self.macro.reductions if value > 0]
        for cell in CELLS if reduced else CELLS[:1]:
            for choice in choices(self.design, cell):
                part = ConfigSpace.CategoricalHyperparameter(
                    choice.name, list(choice.values), default_value=choice.default
                )
                parts.append(part)
                if cell == "reduction" and len(reduced) < len(self.macro.reductions):
                    parts.append(ConfigSpace.InCondition(part, macro["reductions"], reduced))
        space = ConfigSpace.ConfigurationSpace()
        space.add(parts)
        return space

    # The plan --------------------------------------------------------------------------------

    def _configure(self, reduction: bool, values: tuple[Any, ...]) -> _Configured:
        names = self._names[CELLS[reduction]]
        return _Configured(self.design, reduction, dict(zip(names, values, strict=True)))

    def _cells(self, params: Mapping[str, Any], shape: Shape) -> tuple[_Configured, _Configured | None]:
        """The normal cell and, where there are reductions, the reduction cell of a configuration."""
        normal, reduction = (tuple([params.get(name) for name in self._names[cell]]) for cell in CELLS)
        second = self._configured(True, reduction) if shape.reductions else None
        return self._configured(False, normal), second

    @staticmethod
    def _plan(
        normal: _Configured, reduction: _Configured | None, shape: Shape, cells: int, prune: bool
    ) -> _Plan:
        carries = [True, True]
        found: list[tuple[_Part, bool, int]] = []
        for stage in range(shape.reductions + 1):
            for i in range(cells + (stage > 0)):
                reduces = i == 0 and stage > 0
                which = reduction if reduces else normal
                assert which is not None
                part = which.part((carries[-2], carries[-1]) if prune else None)
                carries.append(bool(part.live.outputs))
                found.append((part, reduces, stage))
        wanted = [not prune] * len(carries)
        wanted[-1] = carries[-1]
        for k in range(len(found) - 1, -1, -1):
            if wanted[k + 2]:
                for i in INPUTS:
                    wanted[k + i] |= found[k][0].reads[i]
        placed = tuple(_Placed(*each, wanted[k + 2]) for k, each in enumerate(found))
        return _Plan(placed, (wanted[0], wanted[1]), carries[-1])

    # The network -----------------------------------------------------------------------------

    def graph(self, params: Mapping[str, Any], width: float, depth: float, prune: bool = True) -> Graph:
        """The network; ``prune`` leaves out what does not carry the picture to the output."""
        depth = checked_fraction("depth", depth)
        shape = self.macro.shape(params)
        filters = scaled(shape.filters, width)
        plan = self._plan(*self._cells(params, shape), shape, math.ceil(depth * shape.cells), prune)
        drop = probability(params, "drop_path")
        sketch = Sketch()
        stem = STEMS[shape.stem]
        states: list[State] = list(stem.sketch(sketch, self.input_shape[0], filters))
        for k, placed in enumerate(plan.cells):
            if placed.wanted:
                channels = filters * 2**placed.stage
                level = stem.halvings + placed.stage - placed.reduction
                states.append(self._cell(sketch, f"cell{k}", placed, states[-2:], (channels, level), drop))
            else:
                states.append(states[-1])  # nothing reads it
        last = states[-1]
        if not plan.carries:
            # The picture's zeros stand for those of the last cell: nothing can be told from them either.
            last = states[1]._replace(node=sketch.add("nothing", "zeros_like", states[1].node))
        graph = sketch.head(last.node, last.channels, self.n_classes, probability(params, "dropout"))
        return _reaching(graph) if prune else graph

    def _cell(
        self,
        sketch: Sketch,
        name: str,
        placed: _Placed,
        inputs: Sequence[State],
        size: tuple[int, int],
        drop: float,
    ) -> State:
        """Adds a cell; ``size``: its channels, and how often the picture was halved before it."""
        channels, level = size
        live = placed.part.live
        states: dict[int, str] = {}
        for i in INPUTS:
            if not placed.part.reads[i]:
                continue
            given, at = inputs[i], f"{name}_input{i}"
            change = (given.channels, channels)
            if given.halvings < level:
                states[i] = factorized_reduction(sketch, at, given.node, change)
            else:
                states[i] = relu_conv_norm(sketch, at, given.node, change)
            if i == 1 and self.design.base:
                states[i] = relu_conv_norm(sketch, f"{name}_base", states[i], (channels, channels))
        strides = iter(live.strides(placed.reduction))
        for block, edges in live.blocks():
            results = []
            for edge in edges:
                stride, at = next(strides), f"{name}_{edge.name}"
                result = OPERATIONS[edge.op].sketch(sketch, at, states[edge.source], channels, stride)
                if drop > 0 and result != states[edge.source] and edge.op != "none":
                    result = sketch.add(f"{at}_drop", "DropPath", result, p=drop)
                results.append(result)
            at = f"{name}_block{block}"
            if live.combine[block - 2] == "concat":
                joined = sketch.concat(f"{at}_concat", results)
                states[block] = relu_conv_norm(sketch, at, joined, (len(results) * channels, channels))
            else:
                states[block] = sketch.sum(f"{at}_sum", results)
        output = sketch.concat(f"{name}_output", [states[state] for state in live.outputs])
        return State(output, len(live.outputs) * channels, level + placed.reduction)

    # Size ------------------------------------------------------------------------------------

    def count(self, params: Mapping[str, Any], prune: bool) -> Count:
        """Exact size, added up from what each operation, input and stem costs at each size of the picture."""
        shape = self.macro.shape(params)
        plan = self._plan(*self._cells(params, shape), shape, shape.cells, prune)
        return self._count(shape, plan)

    def _count(self, shape: Shape, plan: _Plan) -> Count:
        stem, states = self._stem(shape, plan.stem[1] or not plan.carries)
        parameters, macs = stem.parameters, stem.macs
        channels_of = [state.channels for state in states]
        inner: dict[tuple[int, int], Count] = {}
        level = states[1].halvings
        for part, reduction, stage, wanted in plan.cells:
            channels = shape.filters * 2**stage
            if wanted:
                # Cells of one stage have the same inside, and differ in their inputs' channels only.
                which = (id(part), stage)
                if which not in inner:
                    inner[which] = self._inside(part, reduction, channels, level + stage - reduction)
                here = inner[which]
                pixels = self._pixels(level + stage - reduction)
                inputs = [channels_of[-2 + i] * channels for i in INPUTS if part.reads[i]]
                if self.design.base and part.reads[1]:
                    inputs.append(channels * channels)
                parameters += here.parameters + sum(inputs) + 2 * channels * len(inputs)
                macs += here.macs + sum(inputs) * pixels
            channels_of.append(len(part.live.outputs) * channels)
        last = channels_of[-1] if plan.carries else states[1].channels
        return Count(parameters + (last + 1) * self.n_classes, macs + last * self.n_classes)

    def _inside(self, part: _Part, reduction: bool, channels: int, level: int) -> Count:
        """Size of a cell without the convolutions of its inputs; ``level``: how often these were halved."""
        parameters = macs = 0
        for (op, stride), times in part.ops:
            # Operations on a reduction cell's inputs halve the picture, the others find it halved.
            cost = self._operation(op, channels, stride, level + (reduction and stride == 1))
            parameters += times * cost.parameters
            macs += times * cost.macs
        pixels = self._pixels(level + reduction)
        for n in part.joins:
            parameters += n * channels * channels + 2 * channels
            macs += n * channels * channels * pixels
        return Count(parameters, macs)

    def _operation(self, op: str, channels: int, stride: int, level: int) -> Count:
        which = (op, channels, stride, level)
        if which not in self._costs:
            sketch = Sketch()
            OPERATIONS[op].sketch(sketch, op, INPUT, channels, stride)
            self._costs[which] = count_graph(sketch.graph(), (channels, *self._size(level)))
        return self._costs[which]

    def _stem(self, shape: Shape, second: bool) -> tuple[Count, tuple[State, State]]:
        """Size of the stem, to its second output or only the first, and both."""
        sketch = Sketch()
        states = STEMS[shape.stem].sketch(sketch, self.input_shape[0], shape.filters)
        which = (shape.stem, shape.filters, second)
        if which not in self._costs:
            # Input 1 is built on input 0, so what stands behind the one that is read is left out.
            last = [node.name for node in sketch.graph()].index(states[which[2]].node)
            self._costs[which] = count_graph(sketch.graph()[: last + 1], self.input_shape)
        return self._costs[which], states

    def _size(self, level: int) -> tuple[int, int]:
        # Every halving rounds up, and so does their product.
        high, wide = (-(-side // 2**level) for side in self.input_shape[1:])
        return high, wide

    def _pixels(self, level: int) -> int:
        high, wide = self._size(level)
        return high * wide

    # Identity and features -------------------------------------------------------------------

    def key(self, params: Mapping[str, Any]) -> str:
        """Equal for configurations whose cells are isomorphic once what is dead is gone."""
        shape = self.macro.shape(params)
        normal, reduction = self._cells(params, shape)
        plan = self._plan(normal, reduction, shape, shape.cells, True)
        macro = "-".join(map(str, shape))
        if not plan.carries:
            return f"{macro} nothing"
        if reduction is None or not plan.reduces:
            return f"{macro} {normal.key}"
        return f"{macro} {normal.key} {reduction.key}"

    def features(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Of both cells what is alive; the macro-architecture; cells alive; logs of parameters and MACs."""
        row: NDArray[np.float64] = self.features_many([params])[0]
        return row

    def features_many(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """The same of several, shape (n, k)."""
        alike: dict[Shape, list[int]] = {}
        if self.macro.searched():
            for i, params in enumerate(configurations):
                alike.setdefault(self.macro.shape(params), []).append(i)
        else:
            alike[self.macro.shape({})] = list(range(len(configurations)))
        parts = [
            cell_batches.features(
                self.design, shape, self.macro.stem, self._parts(shape), [configurations[i] for i in rows]
            )
            for shape, rows in alike.items()
        ]
        table = np.empty((len(configurations), parts[0].shape[1]))
        for rows, part in zip(alike.values(), parts, strict=True):
            table[rows] = part
        return table

    def _parts(self, shape: Shape) -> cell_batches.Costs:
        states = self._stem(shape, True)[1]
        return cell_batches.Costs(
            operation=self._operation,
            stem=lambda second: self._stem(shape, second)[0],
            pixels=self._pixels,
            channels=(states[0].channels, states[1].channels),
            level=states[1].halvings,
            n_classes=self.n_classes,
        )

    # Drawings --------------------------------------------------------------------------------

    def pictures(self, params: Mapping[str, Any]) -> Mapping[str, Picture]:
        """The normal cell, the reduction cell where there is one, and how the network is made of them."""
        shape = self.macro.shape(params)
        pictures = {
            CELLS[i]: _cell_picture(configured.part((True, True)).live)
            for i, configured in enumerate(self._cells(params, shape))
            if configured
        }
        return pictures | {"network": self._network_picture(shape)}

    def _network_picture(self, shape: Shape) -> Picture:
        from spaces.drawing import Arrow, Box, Picture, outputs

        stem = STEMS[shape.stem]
        boxes = [Box("input", "×".join(map(str, self.input_shape))), Box("stem", stem.label)]
        for stage in range(shape.reductions + 1):
            high, wide = self._size(stem.halvings + stage)
            size = f"{shape.filters * 2**stage} filters · {high}×{wide}"
            if stage:
                boxes.append(Box("reduction cell", size))
            times = f"{shape.cells} × normal cell" if shape.cells > 1 else "normal cell"
            boxes.append(Box(times, size))
        boxes.append(Box("classifier", f"average pool · {outputs(self.n_classes)}"))
        arrows = tuple(Arrow(i, i + 1) for i in range(len(boxes) - 1))
        return Picture(tuple(boxes), arrows, "every cell reads the two before it")


def _cell_picture(live: Live) -> Picture:
    from spaces.drawing import Arrow, Box, Picture

    details = {0: "cell before last", 1: "last cell"}
    shown = [i for i in INPUTS if live.reads(i)] or [1]
    boxes = [Box(f"input {i}", details[i]) for i in shown]
    place = {state: i for i, state in enumerate(shown)}
    arrows = []
    for block, edges in live.blocks():
        concat = live.combine[block - 2] == "concat"
        place[block] = len(boxes)
        boxes.append(Box(f"block {block}", "concatenate, conv 1×1" if concat else "add", "join"))
        arrows += [Arrow(place[edge.source], place[block], OPERATIONS[edge.op].label) for edge in edges]
    arrows += [Arrow(place[state], len(boxes)) for state in live.outputs]
    boxes.append(Box("output", "concatenate" if len(live.outputs) > 1 else ""))
    return Picture(tuple(boxes), tuple(arrows))


def _reaching(graph: Graph) -> Graph:
    """The nodes on which the last one depends."""
    wanted = {graph[-1].name}
    for node in reversed(graph):
        if node.name in wanted:
            wanted.update(node.inputs)
    return tuple(node for node in graph if node.name in wanted)
