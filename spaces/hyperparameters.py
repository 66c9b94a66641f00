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
    import ConfigSpace as cs

    optimizer = cs.CategoricalHyperparameter("optimizer", ["sgd", "adamw"], default_value="adamw")
    momentum = cs.UniformFloatHyperparameter("momentum", 0.5, 0.99, default_value=0.9)
    nesterov = cs.CategoricalHyperparameter("nesterov", [False, True], default_value=True)
    beta1 = cs.UniformFloatHyperparameter("beta1", 0.8, 0.99, default_value=0.9)
    return [
        optimizer,
        cs.UniformFloatHyperparameter("lr", 1e-4, 0.3, default_value=3e-3, log=True),
        momentum,
        nesterov,
        beta1,
        cs.EqualsCondition(momentum, optimizer, "sgd"),
        cs.EqualsCondition(nesterov, optimizer, "sgd"),
        cs.EqualsCondition(beta1, optimizer, "adamw"),
        cs.UniformFloatHyperparameter("weight_decay", 1e-6, 1e-1, default_value=1e-3, log=True),
        cs.OrdinalHyperparameter("batch_size", [32, 64, 128, 256], default_value=64),
        cs.UniformFloatHyperparameter("label_smoothing", 0.0, 0.2, default_value=0.0),
        cs.CategoricalHyperparameter("augmentation", ["none", "shift", "shift_flip"], default_value="none"),
        cs.UniformFloatHyperparameter("dropout", 0.0, 0.5, default_value=0.0),
    ]
