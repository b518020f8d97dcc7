"""What a position means, in both layouts."""

import torch
from torch import Tensor

from muse_core.model.block import Topology
from muse_core.model.rotary import Rotary, axial_rotary, raster_rotary

CPU = torch.device("cpu")
CHANNELS = 16


def scores(rotary: Rotary, tokens: int) -> Tensor:
    """q . k (N, N) where every position holds the same query and the same key."""
    torch.manual_seed(0)
    q, k = torch.randn(2, CHANNELS).unbind()
    queries = rotary(q.expand(1, 1, tokens, CHANNELS))
    keys = rotary(k.expand(1, 1, tokens, CHANNELS))
    return (queries @ keys.mT)[0, 0]


def by_displacement(table: Tensor, grid: tuple[int, int]) -> dict[tuple[int, int], list[float]]:
    """All scores between two positions, grouped by (rows down, columns right)."""
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    groups: dict[tuple[int, int], list[float]] = {}
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            groups.setdefault((other_row - row, other_column - column), []).append(table[i, j].item())
    return groups


def spread(groups: dict[tuple[int, int], list[float]]) -> float:
    return max(max(values) - min(values) for values in groups.values())


def test_axial_scores_depend_only_on_the_displacement_in_rows_and_columns() -> None:
    grid = (5, 7)
    groups = by_displacement(scores(axial_rotary(grid, CHANNELS, CPU), 35), grid)
    assert len(groups) == 9 * 13
    assert spread(groups) < 1e-4
    means = torch.tensor([values[0] for values in groups.values()])
    assert means.std() > 0.1, "all displacements look alike"


def test_axial_tells_down_from_right() -> None:
    groups = by_displacement(scores(axial_rotary((4, 4), CHANNELS, CPU), 16), (4, 4))
    assert abs(groups[1, 0][0] - groups[0, 1][0]) > 1e-2
    assert abs(groups[0, 1][0] - groups[0, 0][0]) > 1e-2
    assert abs(groups[0, 1][0] - groups[0, -1][0]) > 1e-2
    assert abs(groups[1, 0][0] - groups[-1, 0][0]) > 1e-2


def test_a10_a_displacement_means_the_same_at_any_image_size() -> None:
    small = by_displacement(scores(axial_rotary((4, 4), CHANNELS, CPU), 16), (4, 4))
    large = by_displacement(scores(axial_rotary((6, 9), CHANNELS, CPU), 54), (6, 9))
    assert all(abs(values[0] - large[displacement][0]) < 1e-4 for displacement, values in small.items())
    # Along the raster, as in the public code, one row down is as far as the image is wide.
    small = by_displacement(scores(raster_rotary(16, CHANNELS, CPU), 16), (4, 4))
    large = by_displacement(scores(raster_rotary(54, CHANNELS, CPU), 54), (6, 9))
    assert abs(small[1, 0][0] - large[1, 0][0]) > 1e-2


def test_turning_keeps_lengths_and_number_format() -> None:
    x = torch.randn(2, 3, 12, CHANNELS)
    for rotary in (axial_rotary((3, 4), CHANNELS, CPU), raster_rotary(12, CHANNELS, CPU)):
        torch.testing.assert_close(rotary(x).norm(dim=-1), x.norm(dim=-1))
        assert rotary(x.bfloat16()).dtype == torch.bfloat16


def test_the_first_position_is_not_turned() -> None:
    x = torch.randn(1, 1, 6, CHANNELS)
    for rotary in (axial_rotary((2, 3), CHANNELS, CPU), raster_rotary(6, CHANNELS, CPU)):
        torch.testing.assert_close(rotary(x)[:, :, 0], x[:, :, 0])


@torch.no_grad()
def test_attention_over_equal_tokens_moves_with_the_query() -> None:
    """The topology stream itself sees an object shifted by one cell as the same object, away from the border."""
    torch.manual_seed(0)
    grid, topology = (8, 8), Topology(32, heads=2)
    rotary = axial_rotary(grid, 16, CPU)
    tokens = torch.randn(32).expand(1, 64, 32).clone()
    attention = topology(tokens, rotary).map
    assert attention is not None
    logs = attention.log()[0].unflatten(-1, grid).unflatten(1, grid)  # heads, query h w, key h w
    ratio = logs[:, 2, 2, 1:5, 1:5] - logs[:, 2, 2, 2:3, 2:3]
    moved = logs[:, 4, 5, 3:7, 4:8] - logs[:, 4, 5, 4:5, 5:6]
    torch.testing.assert_close(ratio, moved, atol=1e-4, rtol=1e-4)
