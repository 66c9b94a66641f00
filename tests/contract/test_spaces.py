"""What every Space promises, whichever kind it is."""

from __future__ import annotations

import json
import math
import pickle
import types
from typing import Any

import ConfigSpace
import numpy as np
import pytest
import torch
from torch import nn

import spaces
from spaces import Count, Space


class Mlp(nn.Sequential):
    """A user's own network."""

    def __init__(self, params: dict[str, Any], width: float) -> None:
        units = max(1, round(params["units"] * width))
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, units), nn.ReLU()]
        for _ in range(params["layers"] - 1):
            layers += [nn.Linear(units, units), nn.ReLU()]
        super().__init__(*layers, nn.Linear(units, 10))


def mlp_count(params: dict[str, Any], prune: bool) -> Count:
    units, more = params["units"], params["layers"] - 1
    weights = 48 * units + more * units * units + 10 * units
    return Count(weights + (1 + more) * units + 10, weights)


def own_space() -> Space:
    cs = ConfigSpace.ConfigurationSpace()
    units = ConfigSpace.Integer("units", (4, 64), log=True)
    layers = ConfigSpace.Integer("layers", (1, 3))
    optimizer = ConfigSpace.Categorical("optimizer", ["sgd", "adamw", "none"], weights=[0.6, 0.3, 0.1])
    momentum = ConfigSpace.Float("momentum", (0.1, 0.9), distribution=ConfigSpace.Normal(0.8, 0.1))
    size = ConfigSpace.OrdinalHyperparameter("size", ["small", "medium", "large"])
    pair = ConfigSpace.CategoricalHyperparameter("pair", [(1, 2), (3, 4)])
    cs.add(units, layers, optimizer, momentum, size, pair)
    cs.add(
        ConfigSpace.EqualsCondition(momentum, optimizer, "sgd"),
        ConfigSpace.ForbiddenAndConjunction(
            ConfigSpace.ForbiddenEqualsClause(optimizer, "adamw"),
            ConfigSpace.ForbiddenInClause(layers, [2, 3]),
        ),
    )
    return Space(
        cs,
        build=lambda params, width, depth: Mlp(params, width),
        count=mlp_count,
        features=lambda params: [params["layers"]],
    )


OPERATIONS = ["conv", "separable", "dilated", "inverted", "max_pool", "avg_pool", "identity"]
SPACES = {
    "chain": lambda: spaces.chain((3, 28, 28), 10),
    "chain with skips, all operations, rectangles": lambda: spaces.chain(
        (3, 9, 8),
        10,
        operations=OPERATIONS,
        kernels=[3, (1, 5)],
        strides=[1, (2, 1)],
        normalisations=["batch", "group", "none"],
        skip_connections=True,
    ),
    "chain with hyperparameters": lambda: spaces.chain((3, 28, 28), 10).with_hyperparameters(),
    "chain fixed": lambda: (
        spaces.chain((3, 8, 8), 10, skip_connections=True)
        .with_hyperparameters()
        .fix({"n_layers": 4, "layer1_op": "max_pool", "optimizer": "sgd", "skip3_0": True})
    ),
    "mlp": lambda: spaces.chain_mlp(20, 10),
    "mlp with hyperparameters": lambda: spaces.chain_mlp(20, 10).with_hyperparameters(),
    "nas_bench_201": lambda: spaces.cell("nas_bench_201", filters=4, cells=1),
    "nas_bench_201 fixed, hyperparameters": lambda: (
        spaces.cell("nas_bench_201", filters=4, cells=2)
        .fix({"edge5": "none"})
        .with_hyperparameters([ConfigSpace.Float("lr", (1e-4, 1e-1), log=True)])
    ),
    "darts": lambda: spaces.cell("darts", filters=4, cells=1, reductions=1).with_hyperparameters(),
    "nasnet": lambda: spaces.cell("nasnet", filters=4, cells=1, reductions=1),
    "enas, macro searched": lambda: spaces.cell("enas", filters=(4, 8), cells=(1, 2), reductions=(0, 1)),
    "amoebanet": lambda: spaces.cell("amoebanet", filters=4, cells=1, reductions=1),
    "cell of one's own": lambda: spaces.cell(
        None, blocks=2, operations=["sep_conv_3x3", "skip_connect"], filters=4, cells=1, reductions=1
    ),
    "own": own_space,
}


@pytest.fixture(scope="module", params=SPACES, ids=list(SPACES))
def space(request: pytest.FixtureRequest) -> Space:
    return SPACES[request.param]()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def restored(space: Space) -> Space:
    return Space.from_dict(json.loads(json.dumps(space.to_dict())))


class TestConfigurations:
    def test_samples_are_members_and_plain(self, space: Space, rng: np.random.Generator) -> None:
        for params in space.sample(200, rng):
            assert space.validate(params) == params
            for value in params.values():
                assert type(value) in (str, int, float, bool, tuple)

    def test_samples_are_members_to_configspace_too(self, space: Space, rng: np.random.Generator) -> None:
        for params in space.sample(50, rng):
            configuration = ConfigSpace.Configuration(space.configuration_space, values=params)
            configuration.check_valid_configuration()

    def test_configspace_samples_are_members(self, space: Space) -> None:
        space.configuration_space.seed(3)
        for configuration in space.configuration_space.sample_configuration(50):
            assert space.validate(dict(configuration)).keys() == dict(configuration).keys()

    def test_sampling_follows_the_generator_alone(self, space: Space) -> None:
        first = space.sample(20, np.random.default_rng(5))
        np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
        space.configuration_space.seed(9)
        assert space.sample(20, np.random.default_rng(5)) == first
        assert space.sample(20, np.random.default_rng(6)) != first

    def test_default_is_a_member(self, space: Space) -> None:
        assert space.validate(space.default) == space.default

    def test_keys_are_functions_of_params(self, space: Space, rng: np.random.Generator) -> None:
        for params in space.sample(30, rng):
            shuffled = dict(sorted(params.items(), reverse=True))
            assert space.key(shuffled) == space.key(params)
        keys = {space.key(p) for p in space.sample(50, rng)}
        assert len(keys) > 20

    def test_encoding_marks_what_is_inactive(self, space: Space, rng: np.random.Generator) -> None:
        samples = space.sample(100, rng)
        encoded = space.encode(samples)
        assert encoded.shape == (100, len(space.encode_names))
        active = encoded[~np.isnan(encoded)]
        assert ((active >= 0) & (active <= 1)).all()
        for row, params in zip(encoded, samples, strict=True):
            for name, value in zip(space.encode_names, row, strict=True):
                assert np.isnan(value) == (name.split("=")[0] not in params)

    def test_different_params_are_encoded_differently(self, space: Space, rng: np.random.Generator) -> None:
        samples = space.sample(100, rng)
        texts = {json.dumps(p, sort_keys=True) for p in samples}
        rows = {row.tobytes() for row in np.nan_to_num(space.encode(samples), nan=-1.0)}
        assert len(rows) == len(texts)

    def test_neighbours_change_one_active_hyperparameter(
        self, space: Space, rng: np.random.Generator
    ) -> None:
        for params in [space.default, *space.sample(10, rng)]:
            neighbours = space.neighbours(params, rng, 20)
            assert len(neighbours) == 20
            for other in neighbours:
                assert space.validate(other) == other
                changed = [n for n in params if n in other and params[n] != other[n]]
                assert len(changed) == 1

    def test_features_are_finite_and_of_one_length(self, space: Space, rng: np.random.Generator) -> None:
        features = space.features_many(space.sample(50, rng))
        assert features.shape[0] == 50
        assert features.shape[1] > 0
        assert np.isfinite(features).all()

    def test_features_in_batches_are_the_same(self, space: Space, rng: np.random.Generator) -> None:
        samples = space.sample(20, rng)
        one_by_one = np.stack([space.features(params) for params in samples])
        assert np.array_equal(space.features_many(samples), one_by_one)

    def test_training_decides_no_structural_feature(self, space: Space) -> None:
        wide = space.with_hyperparameters([ConfigSpace.Float("decay", (0.0, 1.0))])
        a, b = (wide.default | {"decay": decay} for decay in (0.1, 0.9))
        assert np.array_equal(wide.features(a), wide.features(b))
        assert wide.key(a) != wide.key(b)

    def test_size_bounds_the_enumeration(self, space: Space) -> None:
        if math.isfinite(space.size) and space.size < 1e5:
            assert 0 < sum(1 for _ in space.enumerate()) <= space.size
        elif not math.isfinite(space.size):
            with pytest.raises(ValueError, match="infinite"):
                space.enumerate()


class TestStored:
    def test_json_restores_everything_but_functions(self, space: Space, rng: np.random.Generator) -> None:
        again = restored(space)
        assert again == space
        assert again.default == space.default
        assert again.encode_names == space.encode_names
        assert again.input_shape == space.input_shape
        a, b = np.random.default_rng(4), np.random.default_rng(4)
        assert space.sample(50, a) == again.sample(50, b)
        for params in space.sample(20, rng):
            assert again.validate(json.loads(json.dumps(params))) == params
            assert again.key(params) == space.key(params)
        if not again.missing:
            params = space.default
            assert again.build(params).state_dict().keys() == space.build(params).state_dict().keys()

    def test_missing_functions_say_so(self, space: Space) -> None:
        again = restored(space)
        for name in again.missing:
            with pytest.raises(ValueError, match=f"{name}: .*functions are never stored"):
                getattr(again, name)(space.default)

    def test_pickle_restores(self, space: Space) -> None:
        if not space.to_dict()["functions"]:  # a user's lambdas are theirs to ship
            assert pickle.loads(pickle.dumps(space)) == space  # noqa: S301 - our own bytes

    def test_a_newer_version_is_refused(self, space: Space) -> None:
        with pytest.raises(ValueError, match="Upgrade bonas"):
            Space.from_dict(space.to_dict() | {"version": 99})


class TestNetworks:
    @pytest.mark.parametrize("size", [8, 28, 32])
    def test_every_network_trains(self, space: Space, size: int, rng: np.random.Generator) -> None:
        vectors = space.input_shape is not None and len(space.input_shape) == 1
        shape = space.input_shape if vectors else (3, size, size)
        images, labels = torch.randn(4, *shape), torch.tensor([0, 1, 2, 9])
        for params in [space.default, *space.sample(2, rng)]:
            network = space.build(params)
            loss = nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            assert loss.isfinite()
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            assert gradients
            assert all(g.isfinite().all() for g in gradients)

    def test_count_is_exact(self, space: Space, rng: np.random.Generator) -> None:
        for params in space.sample(10, rng):
            expected = sum(p.numel() for p in space.build(params).parameters())
            assert space.count(params).parameters == expected

    def test_smaller_fidelities_build_smaller_networks(self, space: Space) -> None:
        def size(width: float, depth: float) -> int:
            return sum(p.numel() for p in space.build(space.default, width=width, depth=depth).parameters())

        assert size(0.25, 1.0) < size(1.0, 1.0)
        assert size(1.0, 0.5) <= size(1.0, 1.0)

    def test_source_computes_the_same(self, space: Space, rng: np.random.Generator) -> None:
        if space.input_shape is None:
            with pytest.raises(ValueError, match="source"):
                space.source(space.default)
            return
        for width, params in [(0.5, space.default), *((1.0, p) for p in space.sample(3, rng))]:
            module = types.ModuleType("found")
            code = space.source(params, width=width)
            assert "bonas" not in code.replace("Found by bonas", "")
            exec(compile(code, "found.py", "exec"), module.__dict__)
            ours, theirs = space.build(params, width=width).eval(), module.Network().eval()
            theirs.load_state_dict(ours.state_dict())
            images = torch.randn(2, *space.input_shape)
            assert torch.equal(ours(images), theirs(images))

    def test_drawing_is_well_formed(self, space: Space, rng: np.random.Generator) -> None:
        from xml.etree import ElementTree

        for params in space.sample(2, rng):
            root = ElementTree.fromstring(space.draw(params))
            assert root.tag.endswith("svg")
            assert len(root.findall(".//{*}rect")) >= 2

    def test_every_part_can_be_drawn_alone(self, space: Space) -> None:
        from xml.etree import ElementTree

        parts = space.pictures(space.default)
        assert parts
        for part in parts:
            assert ElementTree.fromstring(space.draw(space.default, part)).tag.endswith("svg")
        with pytest.raises(ValueError, match="is drawn in the parts"):
            space.draw(space.default, "no such part")


class TestNarrowing:
    def test_fixing_everything_leaves_one_configuration(self, space: Space, rng: np.random.Generator) -> None:
        for params in [space.default, *space.sample(5, rng)]:
            one = space.fix(params)
            assert one.default == params
            assert one.sample(3, rng) == [params] * 3
            assert one.neighbours(params, rng, 5) == []
            assert one.validate({}) == params
            assert list(one.enumerate()) == [params]

    def test_samples_of_a_fixed_space_are_members_of_the_wide_one(
        self, space: Space, rng: np.random.Generator
    ) -> None:
        for params in space.sample(8, rng):
            names = rng.permutation(list(params))[:2].tolist()
            narrow = space.fix({name: params[name] for name in names})
            for other in [narrow.default, *narrow.sample(20, rng)]:
                assert space.validate(other) == other
                assert space.key(other) == narrow.key(other)
                assert all(other[name] == params[name] for name in names if name in other)
            assert restored(narrow).sample(5, np.random.default_rng(0)) == narrow.sample(
                5, np.random.default_rng(0)
            )

    def test_fixing_in_two_steps_is_fixing_at_once(self, space: Space, rng: np.random.Generator) -> None:
        params = space.default
        (a, *_), b = params, list(params)[-1]
        at_once = space.fix({a: params[a], b: params[b]})
        assert space.fix({a: params[a]}).fix({b: params[b]}).sample(
            5, np.random.default_rng(2)
        ) == at_once.sample(5, np.random.default_rng(2))

    def test_more_hyperparameters_can_be_added(self, space: Space, rng: np.random.Generator) -> None:
        choice = ConfigSpace.Categorical("warmup", [False, True], default=True)
        length = ConfigSpace.Integer("warmup_epochs", (1, 5))
        wide = space.with_hyperparameters([choice, length, ConfigSpace.EqualsCondition(length, choice, True)])
        assert wide.default["warmup"] is True
        for params in wide.sample(20, rng):
            assert ("warmup_epochs" in params) == params["warmup"]
        off = wide.default | {"warmup": False}
        del off["warmup_epochs"]
        assert wide.key(off) != wide.key(wide.default)
        wide.build(wide.default)


class TestBadInput:
    def test_unknown_names(self, space: Space) -> None:
        with pytest.raises(ValueError, match="none of that name"):
            space.validate({"no_such": 1})
        with pytest.raises(ValueError, match="no such hyperparameter"):
            space.fix({"no_such": 1})

    def test_missing_and_illegal_values(self, space: Space) -> None:
        free = next(n for n in space.default if free_in(space, n))
        incomplete = {n: v for n, v in space.default.items() if n != free}
        with pytest.raises(ValueError, match="is missing"):
            space.validate(incomplete)
        for wrong in ("no such value", None, [1, 2, 3]):
            with pytest.raises(ValueError, match=free):
                space.validate(space.default | {free: wrong})
            with pytest.raises(ValueError, match=free):
                space.fix({free: wrong})

    def test_names_twice(self, space: Space) -> None:
        with pytest.raises(ValueError, match="already"):
            space.with_hyperparameters([ConfigSpace.Float(space.names[0], (0.0, 1.0))])

    def test_params_must_be_a_dictionary(self, space: Space) -> None:
        with pytest.raises(ValueError, match="dictionary"):
            space.validate(["lr"])  # type: ignore[arg-type]

    def test_width_must_be_a_fraction(self, space: Space) -> None:
        if space.input_shape is not None:
            for width, depth in [(0.0, 1.0), (2.0, 1.0), (1.0, 0.0)]:
                with pytest.raises(ValueError, match="fraction"):
                    space.build(space.default, width=width, depth=depth)


def free_in(space: Space, name: str) -> bool:
    return not isinstance(space.configuration_space[name], ConfigSpace.Constant)
