"""Changes to a batch: pixels stay the image's own, shares add up, randomness comes from the generator."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fidelity.augmentation import augment, cutout, mixup, parse


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


sides = st.integers(1, 9)


@given(st.integers(1, 5), st.integers(1, 3), sides, sides, st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_shifted_and_flipped_images_hold_only_their_own_pixels(
    n: int, c: int, h: int, w: int, seed: int
) -> None:
    images = torch.arange(1, n + 1).view(n, 1, 1, 1).expand(n, c, h, w)
    changed = augment(images, ("shift", "flip"), generator(seed))
    assert changed.shape == images.shape
    assert ((changed == images) | (changed == 0)).all()


def test_flips_mirror_and_shifts_move_by_an_eighth_at_most() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 8, 3] = 1
    many = image.expand(400, 1, 16, 16)
    random = generator()
    flipped = augment(many, ("flip",), random).nonzero()
    assert set(flipped[:, 3].tolist()) == {3, 12}
    assert set(flipped[:, 2].tolist()) == {8}
    shifted = augment(many, ("shift",), random).nonzero()
    assert len(shifted) == 400
    assert set(shifted[:, 2].tolist()) == {6, 7, 8, 9, 10}
    assert set(shifted[:, 3].tolist()) == {1, 2, 3, 4, 5}
    assert parse("none") == ()
    assert augment(many, (), random) is many


@given(st.integers(1, 4), st.integers(1, 3), sides, sides, st.floats(0.01, 0.99), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_cutout_blanks_one_rectangle_of_at_most_its_part(
    n: int, c: int, h: int, w: int, part: float, seed: int
) -> None:
    changed = cutout(torch.ones(n, c, h, w), part, generator(seed))
    for image in changed:
        blank = image[0] == 0
        assert all(torch.equal(channel == 0, blank) for channel in image)
        rows, columns = blank.any(1).sum().item(), blank.any(0).sum().item()
        assert blank.sum().item() == rows * columns > 0  # a rectangle
        assert rows <= max(1, round(part * h))
        assert columns <= max(1, round(part * w))


def test_cutout_is_centred_on_every_pixel_alike() -> None:
    blanked = (cutout(torch.ones(4000, 1, 4, 4), 0.25, generator()) == 0).float().mean(0)[0]
    assert (blanked - 1 / 16).abs().max() < 0.02
    # Half the side at most reaches over the edge: a quarter of the image in its middle, less at its edges.
    half = (cutout(torch.ones(4000, 1, 4, 4), 0.5, generator()) == 0).float().mean(0)[0]
    assert half.sum() == pytest.approx(3.5 * 3.5 / 4, abs=0.15)


@given(st.floats(0, 1), st.integers(2, 20), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_mixed_examples_and_labels_have_the_same_shares(share: float, n: int, seed: int) -> None:
    labels = torch.arange(n)
    one_hot = torch.eye(n).view(n, 1, n)
    mixed, targets = mixup(one_hot, labels, share, generator(seed))
    expected = sum(part * one_hot[y] for part, y in targets)
    assert torch.allclose(mixed, torch.as_tensor(expected))
    assert sum(part for part, _ in targets) == pytest.approx(1)
    assert torch.equal(targets[0][1], labels)
    assert sorted(targets[1][1].tolist()) == labels.tolist()


def test_mixing_in_full_shares_leaves_the_batch() -> None:
    images = torch.rand(8, 1, 4, 4)
    mixed, _ = mixup(images, torch.arange(8), 1.0, generator())
    assert torch.equal(mixed, images)


def test_one_seed_gives_one_change() -> None:
    images = torch.rand(20, 3, 8, 8)
    for change in (
        lambda seed: augment(images, ("shift", "flip"), generator(seed)),
        lambda seed: cutout(images, 0.5, generator(seed)),
        lambda seed: mixup(images, torch.arange(20), 0.3, generator(seed))[0],
    ):
        assert torch.equal(change(1), change(1))
        assert not torch.equal(change(1), change(2))


@pytest.mark.parametrize("name", ["flip_twist", "flip_flip", "cutout", ""])
def test_unknown_changes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"augmentation='{name}': must be 'none', or shift, flip"):
        parse(name)
