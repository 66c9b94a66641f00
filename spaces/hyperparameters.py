"""The training hyperparameters searched by default; knows no architecture and does not train.

Ranges suit short trainings of small image classifiers with batch normalisation.
"""

from __future__ import annotations

from typing import Any


def default_hyperparameters() -> list[Any]:
    """ConfigSpace hyperparameters and conditions of training.

    Returns:
        ``optimizer`` (sgd or adamw), ``lr``, ``momentum`` and ``nesterov`` (sgd), ``beta1`` (adamw),
        ``weight_decay``, ``batch_size``, ``label_smoothing``, ``augmentation``, ``dropout``. The
        defaults are what one would try first: AdamW at 0.003 in batches of 64.
    """
    import ConfigSpace

    optimizer = ConfigSpace.CategoricalHyperparameter("optimizer", ["sgd", "adamw"], default_value="adamw")
    momentum = ConfigSpace.UniformFloatHyperparameter("momentum", 0.5, 0.99, default_value=0.9)
    nesterov = ConfigSpace.CategoricalHyperparameter("nesterov", [False, True], default_value=True)
    beta1 = ConfigSpace.UniformFloatHyperparameter("beta1", 0.8, 0.99, default_value=0.9)
    return [
        optimizer,
        ConfigSpace.UniformFloatHyperparameter("lr", 1e-4, 0.3, default_value=3e-3, log=True),
        momentum,
        nesterov,
        beta1,
        ConfigSpace.EqualsCondition(momentum, optimizer, "sgd"),
        ConfigSpace.EqualsCondition(nesterov, optimizer, "sgd"),
        ConfigSpace.EqualsCondition(beta1, optimizer, "adamw"),
        ConfigSpace.UniformFloatHyperparameter("weight_decay", 1e-6, 1e-1, default_value=1e-3, log=True),
        ConfigSpace.OrdinalHyperparameter("batch_size", [32, 64, 128, 256], default_value=64),
        ConfigSpace.UniformFloatHyperparameter("label_smoothing", 0.0, 0.2, default_value=0.1),
        ConfigSpace.CategoricalHyperparameter(
            "augmentation", ["none", "shift", "shift_flip"], default_value="none"
        ),
        ConfigSpace.UniformFloatHyperparameter("dropout", 0.0, 0.5, default_value=0.0),
    ]
