"""Skip connections: every pattern of up to four layers against a network written out by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spaces
from spaces import Skips, Space

# Filters and strides of the layers; no two layers' outputs have the same shape.
LAYERS = [(6, 2), (4, 1), (8, (1, 2)), (6, (3, 1))]
IMAGE, CLASSES = (3, 11, 8), 5
WAYS = list(itertools.product(("concat", "add"), ("pad", "project")))


def space(**more: Any) -> Space:
    return spaces.chain(
        IMAGE,
        CLASSES,
        n_layers=(1, 4),
        operations=["conv"],
        kernels=[3],
        filters=[4, 6, 8],
        strides=[1, 2, (1, 2), (3, 1)],
        activations=["relu"],
        normalisations=["batch"],
        **{"skip_connections": True} | more,
    )


def patterns(n: int) -> Iterator[dict[tuple[int, int], bool]]:
    """All ways in which each of n layers may read earlier ones."""
    pairs = [(i, j) for i in range(n) for j in range(i)]
    for values in itertools.product((False, True), repeat=len(pairs)):
        yield dict(zip(pairs, values, strict=True))


def configured(pattern: dict[tuple[int, int], bool], n: int, join: str, reconcile: str) -> dict[str, Any]:
    params: dict[str, Any] = {"n_layers": n, "skip_join": join, "skip_reconcile": reconcile}
    for i, (filters, stride) in enumerate(LAYERS[:n]):
        text = f"{stride[0]}x{stride[1]}" if isinstance(stride, tuple) else stride
        own = {"op": "conv", "kernel": 3, "filters": filters, "stride": text}
        own |= {"activation": "relu", "normalisation": "batch"}
        params |= {f"layer{i}_{name}": value for name, value in own.items()}
    return params | {f"skip{i}_{j}": value for (i, j), value in pattern.items()}


# The network, written from the words of the paper ---------------------------------------------------


def with_zeros(image: Tensor, height: int, width: int, channels: int) -> Tensor:
    """The image in the upper left corner, and the first channels, of zeros."""
    zeros = torch.zeros(len(image), channels, height, width)
    zeros[:, : image.shape[1], : image.shape[2], : image.shape[3]] = image
    return zeros


def averaged_down(image: Tensor, height: int, width: int) -> Tensor:
    """Every new pixel is the mean of the old ones it covers."""
    _, _, high, wide = image.shape
    small = torch.zeros(len(image), image.shape[1], height, width)
    for row in range(height):
        for column in range(width):
            top, bottom = row * high // height, -(-(row + 1) * high // height)
            left, right = column * wide // width, -(-(column + 1) * wide // width)
            small[:, :, row, column] = image[:, :, top:bottom, left:right].mean((2, 3))
    return small


class Joined(nn.Module):
    """Several images as one: concatenated or added, after their shapes have been made to agree."""

    def __init__(self, channels: Sequence[int], join: str, reconcile: str) -> None:
        super().__init__()
        self.join, self.reconcile = join, reconcile
        widest = max(channels)
        self.convolutions = nn.ModuleList()
        self.after: nn.Module = nn.Identity()
        if reconcile == "project" and join == "add":
            for c in channels:
                same = c == widest
                self.convolutions.append(nn.Identity() if same else nn.Conv2d(c, widest, 1, bias=False))
        if reconcile == "project" and join == "concat":
            self.after = nn.Conv2d(sum(channels), widest, 1, bias=False)
        self.widest = widest
        self.channels = sum(channels) if (join, reconcile) == ("concat", "pad") else widest

    def forward(self, images: Sequence[Tensor]) -> Tensor:
        heights, widths = [x.shape[2] for x in images], [x.shape[3] for x in images]
        agreeing = []
        for k, image in enumerate(images):
            if self.reconcile == "pad":
                channels = self.widest if self.join == "add" else image.shape[1]
                agreeing.append(with_zeros(image, max(heights), max(widths), channels))
            else:
                image = averaged_down(image, min(heights), min(widths))
                agreeing.append(self.convolutions[k](image) if self.join == "add" else image)
        if self.join == "concat":
            return self.after(torch.cat(agreeing, 1))
        total = agreeing[0]
        for image in agreeing[1:]:
            total = total + image
        return total


class Reference(nn.Module):
    """A layer reads the layers the pattern says, or the image; what nothing reads goes to the classifier."""

    def __init__(self, pattern: dict[tuple[int, int], bool], n: int, join: str, reconcile: str) -> None:
        super().__init__()
        self.inputs = [[j for j in range(i) if pattern[i, j]] for i in range(n)]
        read = {j for inputs in self.inputs for j in inputs}
        self.loose = [i for i in range(n) if i not in read]
        self.joins, self.layers = nn.ModuleDict(), nn.ModuleList()
        for i, (filters, stride) in enumerate(LAYERS[:n]):
            channels = IMAGE[0]
            if len(self.inputs[i]) == 1:
                channels = LAYERS[self.inputs[i][0]][0]
            elif len(self.inputs[i]) > 1:
                self.joins[str(i)] = Joined([LAYERS[j][0] for j in self.inputs[i]], join, reconcile)
                channels = self.joins[str(i)].channels
            convolution = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
            self.layers.append(nn.Sequential(convolution, nn.BatchNorm2d(filters), nn.ReLU()))
        channels = LAYERS[self.loose[0]][0]
        if len(self.loose) > 1:
            self.joins["end"] = Joined([LAYERS[j][0] for j in self.loose], join, reconcile)
            channels = self.joins["end"].channels
        self.classifier = nn.Linear(channels, CLASSES)

    def ordered_parameters(self) -> Iterator[Tensor]:
        """In the order in which they are used."""
        for i, layer in enumerate(self.layers):
            if str(i) in self.joins:
                yield from self.joins[str(i)].parameters()
            yield from layer.parameters()
        if "end" in self.joins:
            yield from self.joins["end"].parameters()
        yield from self.classifier.parameters()

    def forward(self, image: Tensor) -> tuple[Tensor, list[tuple[int, ...]]]:
        """Scores, and the shapes of what the layers gave."""
        outputs: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            read = [outputs[j] for j in self.inputs[i]] or [image]
            outputs.append(layer(read[0] if len(read) == 1 else self.joins[str(i)](read)))
        loose = [outputs[j] for j in self.loose]
        last = loose[0] if len(loose) == 1 else self.joins["end"](loose)
        return self.classifier(last.mean((2, 3))), [tuple(output.shape) for output in outputs]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize(("join", "reconcile"), WAYS)
def test_every_pattern_is_the_network_written_by_hand(n: int, join: str, reconcile: str) -> None:
    searched = space()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *IMAGE, generator=generator)
    for pattern in patterns(n):
        params = searched.validate(configured(pattern, n, join, reconcile))
        network, reference = searched.build(params).eval(), Reference(pattern, n, join, reconcile).eval()
        shapes: list[tuple[int, ...]] = []
        for i in range(n):
            layer = network.get_submodule(f"layer{i}_act")
            layer.register_forward_hook(lambda *args, found=shapes: found.append(tuple(args[2].shape)))
        for own, other in zip(network.parameters(), reference.ordered_parameters(), strict=True):
            own.data = torch.randn(own.shape, generator=generator) / 3
            other.data.copy_(own.data)
        with torch.no_grad():
            expected, expected_shapes = reference(images)
            torch.testing.assert_close(network(images), expected)
        assert shapes == expected_shapes
        assert searched.count(params).parameters == sum(p.numel() for p in reference.parameters())


def test_the_reference_covers_every_pattern() -> None:
    assert [sum(1 for _ in patterns(n)) for n in range(1, 5)] == [1, 2, 8, 64]


# What else one relies on ----------------------------------------------------------------------------


@pytest.mark.parametrize(("join", "reconcile"), WAYS)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 7), (32, 17)])
def test_every_image_size_works(join: str, reconcile: str, size: tuple[int, int]) -> None:
    searched = space()
    for pattern in list(patterns(4))[::7]:
        network = searched.build(configured(pattern, 4, join, reconcile)).eval()
        assert network(torch.randn(1, 3, *size)).shape == (1, CLASSES)


def test_the_default_is_the_plain_chain() -> None:
    plain = space(skip_connections=False)
    searched = space()
    assert {n: v for n, v in searched.default.items() if not n.startswith("skip")} == plain.default
    assert searched.count(searched.default) == plain.count(plain.default)
    assert (searched.default["skip_join"], searched.default["skip_reconcile"]) == ("concat", "pad")


def test_a_layer_mostly_reads_the_one_before() -> None:
    samples = space().sample(2000, np.random.default_rng(0))
    often = {name: np.mean([p[name] for p in samples if name in p]) for name in ("skip3_2", "skip3_0")}
    assert 0.7 < often["skip3_2"] < 0.9
    assert 0.1 < often["skip3_0"] < 0.4


def test_depth_joins_what_is_then_loose() -> None:
    searched = space()
    chain = dict.fromkeys([(i, j) for i in range(4) for j in range(i)], False)
    params = configured(chain | {(3, 0): True, (3, 1): True, (3, 2): True}, 4, "concat", "pad")
    network = searched.build(params, depth=0.5)
    assert network.classifier.in_features == LAYERS[0][0] + LAYERS[1][0]
    assert network(torch.randn(1, *IMAGE)).shape == (1, CLASSES)


def test_the_way_to_join_matters_to_the_key_only_where_something_is_joined() -> None:
    searched = space()
    pairs = [(i, j) for i in range(3) for j in range(i)]
    plain, dense = {pair: pair[1] == pair[0] - 1 for pair in pairs}, dict.fromkeys(pairs, True)
    assert len({searched.key(configured(plain, 3, *way)) for way in WAYS}) == 1
    assert len({searched.key(configured(dense, 3, *way)) for way in WAYS}) == 4
    # Where shapes agree there is nothing to reconcile; a concatenation is still projected.
    same = {f"layer{i}_{name}": value for i in range(3) for name, value in (("filters", 8), ("stride", 1))}
    keys = {way: searched.key(configured(dense, 3, *way) | same) for way in WAYS}
    assert keys["add", "pad"] == keys["add", "project"]
    assert len(set(keys.values())) == 3


@pytest.mark.parametrize(("join", "reconcile"), WAYS)
def test_isomorphic_networks_share_a_key(join: str, reconcile: str) -> None:
    """Layers of which none reads another may stand in any order."""
    searched = space()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    pattern = dict.fromkeys(pairs, False) | {(3, 0): True, (3, 1): True, (3, 2): True}
    params = configured(pattern, 4, join, reconcile)
    keys = set()
    for order in itertools.permutations(range(3)):
        renamed = dict(params)
        for new, old in enumerate(order):
            for field in ("filters", "stride"):
                renamed[f"layer{new}_{field}"] = params[f"layer{old}_{field}"]
        keys.add(searched.key(renamed))
    assert len(keys) == 1
    assert searched.key(params | {"skip3_1": False}) not in keys
    assert searched.key(params | {"layer3_filters": 4}) not in keys


def test_equal_keys_have_equal_sizes_and_identities_vanish() -> None:
    searched = spaces.chain(
        (3, 8, 8), 10, n_layers=(1, 4), operations=["conv", "identity", "max_pool"], filters=[8],
        kernels=[3], activations=["relu"], normalisations=["batch"], skip_connections=True,
    )  # fmt: skip
    sizes: dict[str, spaces.Count] = {}
    for params in searched.sample(400, np.random.default_rng(0)):
        count = searched.count(params)
        assert sizes.setdefault(searched.key(params), count) == count
    assert len(sizes) < 400


def test_choices_can_be_fixed_from_the_start() -> None:
    fixed = space(skip_connections=Skips(join=["add"], reconcile=("project", "pad")))
    assert fixed.default["skip_join"] == "add"
    assert {p["skip_reconcile"] for p in fixed.sample(50, np.random.default_rng(0))} == {"project", "pad"}
    assert fixed.default["skip_reconcile"] == "project"


@pytest.mark.parametrize("skips", [True, False, Skips(), Skips(join=["concat"], reconcile=["project"])])
def test_json_restores_the_space(skips: Any) -> None:
    searched = space(skip_connections=skips)
    restored = Space.from_dict(json.loads(json.dumps(searched.to_dict())))
    assert restored == searched
    for params in searched.sample(20, np.random.default_rng(0)):
        assert restored.key(params) == searched.key(params)


def test_skips_of_an_earlier_version_are_refused() -> None:
    description = space().to_dict()
    description["architecture"]["skip_connections"] = True
    with pytest.raises(ValueError, match="earlier bonas"):
        Space.from_dict(description)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Skips(join=["multiply"]), "'multiply' is not known. Choose from"),
        (lambda: Skips(join=["add", "add"]), "'add' is given twice"),
        (lambda: Skips(reconcile=[]), "at least one of"),
        (lambda: Skips(reconcile="pad"), "must be a list of names"),
        (lambda: space(skip_connections="yes"), "must be True, False, or spaces.Skips"),
        (lambda: space(skip_connections={"join": ["add"]}), "must be True, False, or spaces.Skips"),
    ],
)
def test_bad_input(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
