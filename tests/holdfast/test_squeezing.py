"""Squeezed rows: what goes, what stays, and how far answers follow."""

import numpy as np
import pytest
import torch

from holdfast.space import Box, Feature, Table
from holdfast.squeezing import squeezed, unsteadiness

PICTURES = Box(shape=(2, 5, 5), low=-1.0, high=1.0, mean=(0.0, 0.0), std=(1.0, 1.0))
PEOPLE = Table(
    features=(
        Feature(name="age", kind="number", iqr=10.0),
        Feature(name="town", kind="category", categories=("Bonn", "Ulm")),
        Feature(name="never", kind="number"),
    )
)
PAST = torch.tensor([[float(age), age % 2, torch.nan] for age in range(32)])


def test_pixels_are_left_with_eight_levels():
    """The nearest of eight between the bounds; what lies on one stays."""
    x = torch.rand(40, 2, 5, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    levels = torch.linspace(-1.0, 1.0, 8)
    few, _ = squeezed(x, x, PICTURES)
    assert torch.allclose(few, levels[(x[..., None] - levels).abs().argmin(-1)], atol=1e-6)
    assert torch.allclose(squeezed(few, x, PICTURES)[0], few, atol=1e-6)


def test_specks_are_smoothed_away_and_edges_stay():
    """Each pixel is the lower median of a square of four, its channel's own: one bright one counts for nothing."""
    x = torch.full((300, 2, 5, 5), -0.5)
    x[:, 1, :, 3:] = 0.5
    flat = x.clone()
    x[:, 0, 2, 2] = x[:, 0, 4, 0] = 1.0
    assert torch.equal(squeezed(x, x, PICTURES)[1], flat)
    ramp = torch.arange(25.0).reshape(1, 1, 5, 5).expand(1, 2, 5, 5)
    corner, edge = squeezed(ramp, ramp, PICTURES)[1][0, 0, [0, 4], [0, 1]].tolist()
    assert (corner, edge) == (1.0, 21.0)  # of 0, 1, 5, 6 and, the last row again, of 21, 22, 21, 22


def test_numbers_move_to_the_middle_of_their_slice_of_the_past():
    """Sixteen slices of two ages each; categories, gaps, and a number that nobody ever had, stay."""
    x = torch.tensor([[0.0, 1, 5], [9.4, 0, torch.nan], [900.0, torch.nan, 0], [torch.nan, 2, 0], [-3.0, 1, 1]])
    (moved,) = squeezed(x, PAST, PEOPLE)
    grid = np.quantile(np.arange(32.0), (np.arange(16) + 0.5) / 16, method="nearest")
    assert moved[[0, 1, 2, 4], 0].tolist() == [grid[np.abs(grid - value).argmin()] for value in (0.0, 9.4, 900.0, -3.0)]
    assert set(moved[[0, 1, 2, 4], 0].tolist()) <= set(PAST[:, 0].tolist())
    assert moved[3, 0].isnan()
    assert torch.equal(moved[:, 1:].nan_to_num(-1.0), x[:, 1:].nan_to_num(-1.0))


@pytest.mark.parametrize("space", [PICTURES, PEOPLE], ids=["images", "table"])
def test_a_row_is_squeezed_as_if_it_were_alone(space):
    """Neither the rows beside it nor their order matter, nothing is written over, and none is no row."""
    x = PAST.clone() if space is PEOPLE else torch.rand(32, 2, 5, 5)
    kept = x.clone()
    whole = squeezed(x, x, space)
    assert torch.equal(x.nan_to_num(-9.0), kept.nan_to_num(-9.0))
    for way, together in enumerate(whole):
        turned = squeezed(x.flip(0)[:7], x, space)[way]
        assert torch.equal(turned.nan_to_num(-9.0), together.flip(0)[:7].nan_to_num(-9.0))
        assert squeezed(x[:0], x, space)[way].shape == x[:0].shape


def test_unsteady_is_how_far_probabilities_move():
    """In L1: nothing where the answer stays, two where it turns, and two where a squeezed row gets none."""

    def answer(x):
        p = (x[:, 0].numpy() % 2 == 1).astype(float)  # the very detail that goes
        p[x[:, 0].numpy() > 29.0] = np.nan
        return np.stack([p, 1 - p], 1)

    (moved,) = squeezed(PAST[:29], PAST, PEOPLE)
    found = unsteadiness(answer, PAST[:29], PAST, PEOPLE)
    expected = np.where(moved[:, 0] % 2 != PAST[:29, 0] % 2, 2.0, 0.0)
    assert found.shape == (29, 1)
    assert found[:, 0].tolist() == expected.tolist()
    assert set(expected) == {0.0, 2.0}
    odd = PAST[31:].clone()
    odd[0, 0] = 29.0
    assert unsteadiness(lambda x: np.full((len(x), 2), 0.5 if x[0, 0] == 29.0 else np.nan), odd, PAST, PEOPLE) == 2.0
