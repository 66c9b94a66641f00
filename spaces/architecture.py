"""What a family of networks must say about itself to become a space; knows no hyperparameters of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray

    from spaces.counting import Count
    from spaces.drawing import Picture
    from spaces.graph import Graph


class Architecture(Protocol):
    """A family of networks over a configuration space of its own.

    ``params`` are canonical (active hyperparameters only) and may hold training hyperparameters too;
    of those only the ones in ``reads`` are read.
    """

    @property
    def kind(self) -> str:
        """Name under which the family is registered in ``spaces.space``."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one image, or (features,) of one vector."""

    @property
    def n_classes(self) -> int:
        """How many classes the networks tell apart."""

    def configuration_space(self) -> ConfigurationSpace:
        """A fresh ConfigSpace space; its defaults are a sensible hand-written network."""

    def graph(self, params: Mapping[str, Any], width: float, depth: float, prune: bool = True) -> Graph:
        """The network of a configuration; ``prune`` leaves out what cannot reach the output."""

    def count(self, params: Mapping[str, Any], prune: bool) -> Count:
        """Exact size at full width and depth."""

    def key(self, params: Mapping[str, Any]) -> str:
        """Equal for configurations that compute the same network."""

    def features(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Structural features, finite, shape (k,), k the same for every configuration; fast."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Which training hyperparameters the network itself depends on, such as ``dropout``."""

    @property
    def reserved(self) -> frozenset[str]:
        """Names of its settings beyond what is searched: no hyperparameter of training may have one."""

    def pictures(self, params: Mapping[str, Any]) -> Mapping[str, Picture]:
        """Boxes and arrows of each part worth a drawing, the most telling first: cells, the network."""

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the registered constructor, JSON-ready."""
