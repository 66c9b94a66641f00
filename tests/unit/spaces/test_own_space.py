"""Spaces of the user's own, the default hyperparameters, the drawing of odd text, and the package's door."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import ConfigSpace
import pytest
from torch import nn

import spaces
from spaces import Space

PARAMS = {"a": 1}


def own(**functions: object) -> Space:
    return Space(ConfigSpace.ConfigurationSpace({"a": (0, 5)}), **functions)  # type: ignore[arg-type]


def test_functions_are_called_with_params() -> None:
    space = own(
        build=lambda params, width, depth: nn.Linear(params["a"], round(10 * width * depth)),
        key=lambda params: f"a is {params['a']}",
        count=lambda params, prune: spaces.Count(params["a"], int(prune)),
        features=lambda params: [params["a"], 2],
    )
    assert space.build(PARAMS, width=0.5).out_features == 5
    assert space.key(PARAMS) == "a is 1"
    assert space.count(PARAMS, prune=False) == spaces.Count(1, 0)
    assert space.features(PARAMS).tolist() == [1.0, 2.0]
    wide = space.with_hyperparameters([ConfigSpace.Float("lr", (0.1, 1.0))])
    assert wide.key(PARAMS | {"lr": 0.5}) == 'a is 1|{"lr":0.5}'


def test_what_was_not_given_says_so() -> None:
    space = own()
    assert space.features(PARAMS).shape == (0,)
    for name in ("build", "count"):
        with pytest.raises(ValueError, match=f"{name}: this space has no such function"):
            getattr(space, name)(PARAMS)


def test_functions_that_return_the_wrong_thing() -> None:
    with pytest.raises(ValueError, match=r"build returned str: must return a torch\.nn\.Module"):
        own(build=lambda params, width, depth: "net").build(PARAMS)
    with pytest.raises(ValueError, match="count returned 3"):
        own(count=lambda params, prune: 3).count(PARAMS)
    for wrong in ([float("nan")], None, ["much"], {"a": 1}, [object()]):
        with pytest.raises(ValueError, match=r"features returned .*: must be a 1-D array of finite numbers"):
            own(features=lambda params, wrong=wrong: wrong).features(PARAMS)
    for wrong in (None, 3):  # a forgotten return would make all configurations one
        with pytest.raises(ValueError, match=f"key returned {wrong}: must return a text"):
            own(key=lambda params, wrong=wrong: wrong).key(PARAMS)


def test_further_features_stand_behind_the_spaces_own() -> None:
    space = own(features=lambda params: [params["a"], 2])
    proxies = space.with_features(lambda params: [10 * params["a"]]).with_features(lambda params: [7, 8])
    assert proxies.features(PARAMS).tolist() == [1, 2, 10, 7, 8]
    assert proxies.features_many([PARAMS, {"a": 3}]).tolist() == [[1, 2, 10, 7, 8], [3, 2, 30, 7, 8]]
    assert space.features(PARAMS).tolist() == [1, 2]
    assert proxies.fix({"a": 3}).features({"a": 3}).tolist() == [3, 2, 30, 7, 8]
    chain = spaces.chain((1, 8, 8), 10)
    more = chain.with_features(lambda params: [params["n_layers"]])
    assert more.features(chain.default).tolist() == [*chain.features(chain.default), 3]


def test_further_features_are_never_stored() -> None:
    space = spaces.chain((1, 8, 8), 10).with_features(lambda params: [1])
    again = Space.from_dict(space.to_dict())
    assert again.missing == ("with_features",)
    with pytest.raises(ValueError, match="functions are never stored"):
        again.features(space.default)
    whole = again.with_features(lambda params: [1])
    assert whole == space
    assert whole.features(space.default).tolist() == space.features(space.default).tolist()


def test_features_of_unequal_lengths() -> None:
    space = own().with_features(lambda params: [0] * params["a"])
    with pytest.raises(ValueError, match="1 numbers for one configuration and 2 for another"):
        space.features_many([PARAMS, {"a": 2}])
    with pytest.raises(ValueError, match="must be a function of params"):
        own().with_features([1, 2])  # type: ignore[arg-type]


def test_hyperparameters_fit_the_network() -> None:
    images = spaces.chain((1, 8, 8), 10).with_hyperparameters()
    vectors = spaces.chain_mlp(5, 3).with_hyperparameters()
    assert {"dropout", "augmentation"} <= set(images.names)
    assert not {"dropout", "augmentation"} & set(vectors.names)
    assert "drop_path" in spaces.cell("darts").with_hyperparameters().names
    assert "drop_path" not in images.names


def test_names_given_twice_in_one_call() -> None:
    twice = [ConfigSpace.Float("lr", (0.1, 1.0)), ConfigSpace.Float("lr", (0.1, 1.0))]
    with pytest.raises(ValueError, match="lr"):
        own().with_hyperparameters(twice)


def test_default_hyperparameters_are_conditional() -> None:
    space = own().with_hyperparameters()
    sgd = space.fix({"optimizer": "sgd"}).default
    adamw = space.fix({"optimizer": "adamw"}).default
    assert {"momentum", "nesterov"} <= sgd.keys()
    assert "beta1" in adamw
    assert not {"momentum", "nesterov"} & adamw.keys()
    assert "beta1" not in sgd


def test_key_tells_trainings_apart() -> None:
    space = spaces.chain((1, 8, 8), 10).with_hyperparameters()
    assert space.key(space.default) != space.key(space.default | {"lr": 0.01})
    assert space.key(space.default) != space.key(space.default | {"dropout": 0.1})


def test_architecture_first_or_hyperparameters_first() -> None:
    chain = spaces.chain((1, 8, 8), 10)
    one = chain.fix({"n_layers": 2}).with_hyperparameters().fix({"lr": 0.01})
    other = chain.with_hyperparameters().fix({"lr": 0.01}).fix({"n_layers": 2})
    assert one == other
    assert one.default["lr"] == 0.01


def test_drawings_escape_text() -> None:
    space = Space(ConfigSpace.ConfigurationSpace({"<b>": ["<script>&", "x"]}))
    drawing = space.draw({"<b>": "<script>&"})
    texts = [t.text for t in ElementTree.fromstring(drawing).findall(".//{*}text")]
    assert texts == ["<b>", "<script>&"]


def test_source_cannot_be_broken_by_text() -> None:
    quote = '"""\\'
    space = spaces.chain((1, 8, 8), 2).with_hyperparameters([ConfigSpace.Categorical("note", [quote, "x"])])
    compile(space.source(space.default | {"note": quote}), "network.py", "exec")


def test_importing_spaces_is_light() -> None:
    code = (
        "import sys, spaces; loaded = {'torch', 'ConfigSpace', 'scipy', 'numpy'} & sys.modules.keys(); "
        "assert not loaded, loaded; space = spaces.chain((1, 8, 8), 10); space.count(space.default); "
        "assert 'torch' not in sys.modules; assert callable(spaces.chain) and callable(spaces.cell)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_door_promises_what_it_has() -> None:
    for name in spaces.__all__:
        assert getattr(spaces, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = spaces.nothing


def test_edited_descriptions_are_refused() -> None:
    good = spaces.chain((1, 8, 8), 10).to_dict()
    architecture = good["architecture"]
    for wrong, message in [
        ({"architecture": architecture | {"kind": "tree"}}, "architecture 'tree': is not known"),
        ({"architecture": architecture | {"colour": 1}}, "Was the file edited"),
        ({"architecture": architecture | {"n_classes": 0}}, "at least 1"),
        ({"configuration_space": {}}, "Was the file edited"),
        ({"version": "1"}, "not the description of a space"),
        ({"architecture": 3}, "architecture=3: must be a dictionary"),
        ({"architecture": architecture | {"kind": ["chain"]}}, "is not known"),
        ({"architecture": architecture | {"n_layers": [2, 10**30]}}, "more than 1000"),
        ({"functions": "build"}, "functions='build': must be a list of names"),
        ({"hyperparameters": [1]}, "must be a list of names"),
        ({"configuration_space": None}, "configuration_space=None: must be a dictionary"),
        (
            {"configuration_space": good["configuration_space"] | {"hyperparameters": "lr"}},
            "Was the file edited",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            Space.from_dict(good | wrong)
    with pytest.raises(ValueError, match="not the description of a space"):
        Space.from_dict([good])  # type: ignore[arg-type]


def test_a_description_that_does_not_fit_its_networks_says_so() -> None:
    data = spaces.cell("nas_bench_201", filters=2, cells=1).to_dict()
    parts = data["configuration_space"]
    parts["hyperparameters"] = [h for h in parts["hyperparameters"] if h["name"] != "edge3"]
    space = Space.from_dict(data)
    for use in (space.build, space.count, space.key, space.features):
        with pytest.raises(ValueError, match=r"does not fit its networks: .*edge3"):
            use(space.default)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({}, "is missing: it is active here"), (None, "must be a dictionary"), ([1], "must be a dictionary")],
)
def test_what_is_no_configuration_says_why(wrong: Any, message: str) -> None:
    space = spaces.chain((1, 8, 8), 10)
    for use in (space.build, space.count, space.key, space.features, space.draw, space.source):
        with pytest.raises(ValueError, match=message):
            use(wrong)


def test_what_is_nearly_a_configuration_says_why() -> None:
    space = spaces.chain((1, 8, 8), 10)
    magic = space.default | {"layer0_op": "magic"}
    for wrong in (lambda: space.encode([magic]), lambda: space.features(magic), lambda: space.count(magic)):
        with pytest.raises(ValueError, match="layer0_op='magic': must be one of"):
            wrong()
    with pytest.raises(ValueError, match="'layer0_filters' is missing"):  # rather than counted as none
        space.count({name: value for name, value in space.default.items() if name != "layer0_filters"})
    for one in (space.default, None):
        with pytest.raises(ValueError, match="must be a list of params"):
            space.encode(one)  # type: ignore[arg-type]
    fixed = space.fix({"n_layers": 2})
    with pytest.raises(ValueError, match=r"'n_layers' is missing\. Use space\.validate\(params\)"):
        fixed.key({name: value for name, value in fixed.default.items() if name != "n_layers"})


@pytest.mark.parametrize("wrong", ["a", None, float("nan"), 0, 2])
def test_width_and_depth_are_fractions(wrong: Any) -> None:
    vectors, images = spaces.chain_mlp(4, 2), spaces.chain((1, 8, 8), 2)
    for space in (vectors, images, spaces.cell("darts", (1, 8, 8)), spaces.cell(input_shape=(1, 8, 8))):
        with pytest.raises(ValueError, match=r"width=.*must be a fraction"):
            space.build(space.default, width=wrong)
        with pytest.raises(ValueError, match=r"depth=.*must be a fraction"):
            space.build(space.default, depth=wrong)


def test_layers_settings_are_no_hyperparameters_of_training() -> None:
    space = spaces.chain((1, 8, 8), 2, operations=["conv"])
    with pytest.raises(ValueError, match="'layer0_dilation': the networks have a setting of that name"):
        space.with_hyperparameters([ConfigSpace.Constant("layer0_dilation", 9)])


@pytest.mark.parametrize("wrong", [None, 5, [("x", 1)]])
def test_fix_takes_a_dict(wrong: Any) -> None:
    space = Space(ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0)}))
    with pytest.raises(ValueError, match="takes a dict"):
        space.fix(wrong)


@pytest.mark.parametrize(
    "wrong", [5, "lr", {"lr": (0.0, 1.0)}, ConfigSpace.ConfigurationSpace({"lr": (0.0, 1.0)})]
)
def test_hyperparameters_are_a_list(wrong: Any) -> None:
    space = Space(ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0)}))
    with pytest.raises(ValueError, match="must be a list"):
        space.with_hyperparameters(wrong)
    with pytest.raises(ValueError, match="must be a hyperparameter, a condition or a forbidden clause"):
        space.with_hyperparameters(["lr"])
