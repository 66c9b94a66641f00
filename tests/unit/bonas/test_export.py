"""Exported folders: complete, exact, and usable with torch alone; searches nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bonas.export import export

SOURCE = '''"""A network."""

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.norm(x).flatten(1))
'''
PREPARATION = {"input_shape": (1, 4, 4), "mean": [0.25], "std": [0.5], "classes": ["cat", "it's", 'a "dog"']}


def trained() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    return {
        "norm.weight": draw(1),
        "norm.bias": draw(1),
        "norm.running_mean": draw(1),
        "norm.running_var": draw(1),
        "norm.num_batches_tracked": torch.tensor(7),
        # Strided, as a tied or sliced weight would be.
        "head.weight": draw(16, 3).T,
        "head.bias": draw(3),
    }


def run(folder: Path, code: str) -> str:
    # -I: neither the current folder nor the environment's paths; bonas and safetensors are hidden as well.
    hide = "import sys; sys.modules.update(dict.fromkeys(['bonas', 'spaces', 'fidelity', 'safetensors'])); "
    hide += f"sys.path.insert(0, {str(folder)!r}); "
    done = subprocess.run(
        [sys.executable, "-I", "-c", hide + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_folder_gives_the_same_outputs_with_torch_alone(tmp_path: Path) -> None:
    state = trained()
    export(tmp_path / "out", SOURCE, state, {"trial": 3}, PREPARATION)
    scope: dict[str, object] = {}
    exec(SOURCE, scope)
    network = scope["Network"]()  # type: ignore[operator]
    network.load_state_dict(state)
    images = (torch.arange(32) % 251).to(torch.uint8).reshape(2, 1, 4, 4)
    expected = network.eval()((images.float() - 0.25) / 0.5)
    printed = run(
        tmp_path / "out",
        "import network, torch; n = network.load(); "
        "x = (torch.arange(32) % 251).to(torch.uint8).reshape(2, 1, 4, 4); "
        "print(n(network.prepare(x)).tolist()); print(network.predict(n, x)[0].tolist()); "
        "print(network.CLASSES); print(network.predict(n, x.numpy())[0].tolist())",
    ).splitlines()
    assert torch.equal(torch.tensor(json.loads(printed[0])), expected)
    assert json.loads(printed[1]) == expected.argmax(1).tolist()
    assert printed[2] == repr(PREPARATION["classes"])
    assert printed[3] == printed[1]  # arrays are as good as tensors


def test_vectors_are_prepared_feature_by_feature(tmp_path: Path) -> None:
    source = SOURCE.replace("BatchNorm2d(1)", "Identity()").replace(
        "Linear(16, 3)", "Linear(2, 2, bias=False)"
    )
    preparation = {"input_shape": (2,), "mean": [1.0, 100.0], "std": [2.0, 50.0], "classes": ["a", "b"]}
    export(tmp_path, source, {"head.weight": torch.eye(2)}, {}, preparation)
    code = "import network; n = network.load(); x = [[1, 150], [5, 100]]; "
    code += "print(network.prepare(x).tolist()); print(network.predict(n, x)[0].tolist())"
    assert run(tmp_path, code).splitlines() == ["[[0.0, 1.0], [2.0, 0.0]]", "[1, 0]"]


def test_numbers_are_predicted_in_their_own_unit(tmp_path: Path) -> None:
    source = SOURCE.replace("BatchNorm2d(1)", "Identity()").replace(
        "Linear(16, 3)", "Linear(2, 1, bias=False)"
    )
    preparation = {"input_shape": (2,), "mean": [1.0, 100.0], "std": [2.0, 50.0]}
    preparation |= {"labels": {"mean": 1000.0, "std": 10.0}, "classes": ()}
    written = export(tmp_path, source, {"head.weight": torch.tensor([[1.0, 2.0]])}, {}, preparation)
    code = "import network; n = network.load(); print(network.predict(n, [[1, 150], [5, 100]]).tolist())"
    assert run(tmp_path, code).splitlines() == ["[1020.0, 1020.0]"]
    done = subprocess.run([sys.executable, "-I", written.source], capture_output=True, text=True, check=False)
    assert "2 parameters loaded; an input of zeros is 955.0 to it" in done.stdout, done.stderr


def test_the_file_runs_by_itself(tmp_path: Path) -> None:
    written = export(tmp_path, SOURCE, trained(), {}, PREPARATION)
    done = subprocess.run([sys.executable, "-I", written.source], capture_output=True, text=True, check=False)
    assert "53 parameters loaded" in done.stdout, done.stderr


def test_weights_and_configuration_come_back(tmp_path: Path) -> None:
    state = trained()
    written = export(tmp_path, SOURCE, state, {"trial": 3, "params": {"lr": 0.1}})
    stored = load_file(written.weights)
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[k], state[k]) for k in state)
    assert json.loads(written.configuration.read_text())["params"] == {"lr": 0.1}


def test_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    export(tmp_path, SOURCE, trained(), {"trial": 1}, PREPARATION)
    export(tmp_path, SOURCE, trained(), {"trial": 2})
    assert json.loads((tmp_path / "configuration.json").read_text())["trial"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "configuration.json",
        "model.safetensors",
        "network.py",
    ]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        export(tmp_path / "out", SOURCE, trained(), {})
    assert (tmp_path / "out").read_text() == "mine"
