"""Published cells have the published sizes."""

from __future__ import annotations

import pytest
import torch

import spaces
from spaces.genotypes import GENOTYPES

SMALL = {"filters": 4, "cells": 1}


@pytest.mark.parametrize(
    ("name", "parameters"), [("DARTS_V1", 3_169_414), ("DARTS_V2", 3_349_342), ("AMOEBANET_A", 3_145_078)]
)
def test_sizes_at_36_filters_and_20_cells_are_exact(name: str, parameters: int) -> None:
    genotype = GENOTYPES[name]
    assert genotype.space().count(genotype.params).parameters == parameters


@pytest.mark.parametrize(("name", "millions"), [("NASNET_A", 3.3), ("ENAS", 4.6)])
def test_sizes_of_the_papers_are_met(name: str, millions: float) -> None:
    genotype = GENOTYPES[name]
    assert genotype.space().count(genotype.params).parameters == pytest.approx(millions * 1e6, rel=0.03)


@pytest.mark.parametrize("name", GENOTYPES)
def test_entries_are_whole_configurations_without_dead_parts(name: str) -> None:
    genotype = GENOTYPES[name]
    assert "arXiv:" in genotype.source
    space = genotype.space((1, 28, 28), 7, **SMALL)
    params = space.validate(genotype.params)
    assert params == genotype.params
    assert space.count(params) == space.count(params, prune=False)
    network = space.build(params)
    assert sum(p.numel() for p in network.parameters()) == space.count(params).parameters
    assert network.eval()(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


def test_a_genotype_can_be_the_start_of_a_search() -> None:
    genotype = GENOTYPES["DARTS_V2"]
    space = genotype.space(filters=[8, 16], cells=1)
    assert isinstance(space, spaces.Space)
    assert space.count({**genotype.params, "filters": 8}) != space.count({**genotype.params, "filters": 16})
