"""Muon for the kernels and matrices of a network and AdamW for the rest, as one optimizer; knows no training.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by
the nearest matrix whose singular values are all about 1. torch's implementation takes matrices only; a
kernel (out, in, height, width) is one too, (out, in·height·width), as in the author's own networks. Rates
are scaled as by Liu et al. 2025 (arXiv:2502.16982, section 2.2), so that learning rates and weight decays
that suit AdamW suit it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MuonWithAdamW:
    """Two optimizers of torch behind the methods of one.

    Args:
        weights: what Muon trains, see :func:`hidden_weights`; at least one. The network must stay on its
            device and in its memory format: the matrices are views of these weights.
        lr: learning rate; ``param_groups`` can change it later.
        momentum: in [0, 1).
        weight_decay: of ``weights``, decoupled.
        others: parameter groups for AdamW.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        lr: float,
        momentum: float,
        weight_decay: float,
        others: list[dict[str, Any]],
    ) -> None:
        self._weights = [(w, nn.Parameter(_matrix(w, w))) for w in weights]
        self._muon = torch.optim.Muon(
            [matrix for _, matrix in self._weights],
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = torch.optim.AdamW(others, lr=lr, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [*self._muon.param_groups, *self._adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for weight, _ in self._weights:
            weight.grad = None
        self._muon.zero_grad()
        self._adamw.zero_grad(set_to_none)

    def step(self) -> None:
        """Change the parameters by their gradients."""
        for weight, matrix in self._weights:
            matrix.grad = None if weight.grad is None else _matrix(weight.grad, weight)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights of a network that Muon suits: kernels and matrices between the first layer and the last.

    Input and output layers, and depthwise kernels, whose rows never meet in one sum, are not among them.
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    return [w for w in weights[1:-1] if w.shape[1] > 1 and (w.is_contiguous() or _channels_last(w))]


def _channels_last(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _matrix(values: Tensor, weight: Tensor) -> Tensor:
    """A weight, or its gradient, as the matrix (out, rest) whose columns lie as the weight's memory does.

    The order of the columns makes no difference to Muon: it commutes with permuting them.
    """
    values = values.detach()
    return (values if weight.is_contiguous() else values.movedim(1, -1)).flatten(1)
