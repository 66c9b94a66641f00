"""The training hyperparameters searched by default; knows no architecture and does not train.

Ranges suit short trainings of small classifiers with batch normalisation. To add a hyperparameter,
add one entry to :data:`HYPERPARAMETERS`; whatever trains must read it (``fidelity/optimizers.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Maker = Callable[[str], Any]  # from a name to a ConfigSpace hyperparameter


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One hyperparameter of training."""

    name: str
    make: Maker
    optimizers: tuple[str, ...] = ()
    """Active with these optimizers only; empty: with all."""
    needs: str | None = None
    """Offered only where inputs are ``images``, or where the network reads the one of this name."""


def _choice(*choices: Any, default: Any) -> Maker:
    def make(name: str) -> Any:
        import ConfigSpace

        return ConfigSpace.CategoricalHyperparameter(name, list(choices), default_value=default)

    return make


def _levels(*levels: Any, default: Any) -> Maker:
    """A few values in their order."""

    def make(name: str) -> Any:
        import ConfigSpace

        return ConfigSpace.OrdinalHyperparameter(name, list(levels), default_value=default)

    return make


def _range(low: float, high: float, default: float, log: bool = False) -> Maker:
    def make(name: str) -> Any:
        import ConfigSpace

        return ConfigSpace.UniformFloatHyperparameter(name, low, high, default_value=default, log=log)

    return make


HYPERPARAMETERS: tuple[Hyperparameter, ...] = (
    Hyperparameter("optimizer", _choice("sgd", "adamw", "muon", default="adamw")),
    Hyperparameter("lr", _range(3e-4, 0.1, default=3e-3, log=True)),
    Hyperparameter("momentum", _range(0.5, 0.99, default=0.9), optimizers=("sgd", "muon")),
    Hyperparameter("nesterov", _choice(False, True, default=True), optimizers=("sgd",)),
    Hyperparameter("beta1", _range(0.8, 0.99, default=0.9), optimizers=("adamw",)),
    Hyperparameter("schedule", _choice("cosine", "linear", "warmup_stable_decay", default="cosine")),
    Hyperparameter("weight_decay", _range(1e-5, 3e-2, default=1e-3, log=True)),
    Hyperparameter("batch_size", _levels(32, 64, 128, 256, default=64)),
    Hyperparameter("label_smoothing", _range(0.0, 0.2, default=0.1)),
    # Levels, because "off" must have its share of the draws: short trainings seldom want these.
    Hyperparameter("mixup", _levels(0.0, 0.1, 0.2, 0.4, 1.0, default=0.0)),
    Hyperparameter("cutout", _levels(0.0, 0.25, 0.5, default=0.0), needs="images"),
    Hyperparameter("augmentation", _choice("none", "shift", "shift_flip", default="none"), needs="images"),
    Hyperparameter("dropout", _range(0.0, 0.4, default=0.0), needs="dropout"),
    Hyperparameter("drop_path", _range(0.0, 0.4, default=0.0), needs="drop_path"),
)
"""What :func:`default_hyperparameters` offers; the defaults are what one would try first."""


def default_hyperparameters(reads: Sequence[str] = ("dropout",), images: bool = True) -> list[Any]:
    """ConfigSpace hyperparameters and conditions of training.

    Args:
        reads: hyperparameters the network itself depends on: ``dropout``, ``drop_path``.
        images: whether the inputs are images; vectors get no ``cutout`` and no ``augmentation``.

    Returns:
        New ConfigSpace objects: a hyperparameter for each entry of :data:`HYPERPARAMETERS` that applies,
        then the conditions. The defaults are AdamW at 0.003 in batches of 64 under a cosine.
    """
    import ConfigSpace

    offered = {None, *reads, *(("images",) if images else ())}
    chosen = [entry for entry in HYPERPARAMETERS if entry.needs in offered]
    made = {entry.name: entry.make(entry.name) for entry in chosen}
    optimizer = made["optimizer"]
    conditions = [
        ConfigSpace.EqualsCondition(made[entry.name], optimizer, entry.optimizers[0])
        if len(entry.optimizers) == 1
        else ConfigSpace.InCondition(made[entry.name], optimizer, list(entry.optimizers))
        for entry in chosen
        if entry.optimizers
    ]
    return [*made.values(), *conditions]
