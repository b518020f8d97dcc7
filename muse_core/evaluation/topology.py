"""Does attention follow structure? Agreement with a teacher's map, and whether an object's patches find each other.

Letters: B images, n = h*w patches, Q queries, G groups of keys, S side of a mask. Rows of every map are queries.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from einops import rearrange
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from muse_core.errors import MuseError

Grid = tuple[int, int]
MIXED, UNKNOWN = -1, -2
_FLOOR = 1e-8  # what the topology loss adds before the logarithm; the measure is the loss, to the digit


def attention_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student), mean over queries: (B, n, n) or (n, n) against (B, n, n) to float64 (B,), in nats."""
    target = teacher.double()
    return (torch.xlogy(target, target) - target * (student.double() + _FLOOR).log()).sum(-1).mean(-1)


def squared_distances(grid: Grid) -> Tensor:
    """Squared distance in patches between all positions of a grid: int64 (n, n)."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    points = torch.stack([rows.flatten(), columns.flatten()], -1)
    return ((points[:, None] - points[None]) ** 2).sum(-1)


def gaussian_map(grid: Grid, sigma: float) -> Tensor:
    """Attention that falls with distance and knows nothing else: float64 (n, n), rows sum to 1, sigma in patches."""
    return torch.softmax(-squared_distances(grid).double() / (2 * sigma**2), -1)


class TeacherMaps:
    """What is needed of a teacher's maps to fit maps that do not look at the image, without keeping them."""

    def __init__(self, grid: Grid) -> None:
        n = grid[0] * grid[1]
        self.grid = grid
        self.count = 0
        self._sum = torch.zeros(n, n, dtype=torch.float64)
        self._information = 0.0  # sum over images of sum t log t, mean over queries

    def add(self, maps: Tensor) -> None:
        """Take in maps (B, n, n)."""
        target = maps.detach().cpu().double()
        self.count += len(target)
        self._sum += target.sum(0)
        self._information += float(torch.xlogy(target, target).sum(-1).mean(-1).sum())

    def merge(self, other: Self) -> None:
        """Take in everything another one has seen."""
        self.count += other.count
        self._sum = self._sum + other._sum
        self._information += other._information

    def mean(self) -> Tensor:
        """Return the mean map (n, n): of all maps that ignore the image, the closest to the teacher."""
        return self._sum / self.count

    def kl_of(self, fixed: Tensor) -> float:
        """Return the mean KL(teacher || fixed) over all images, for one map (n, n) given to every image."""
        cross = (self.mean() * (fixed.double() + _FLOOR).log()).sum(-1).mean()
        return self._information / self.count - float(cross)

    def uniform_kl(self) -> float:
        """Return the KL of attention that is equal everywhere."""
        n = len(self._sum)
        return self.kl_of(torch.full((n, n), 1 / n, dtype=torch.float64))

    def best_gaussian(self) -> tuple[float, float]:
        """Return (sigma in patches, KL) of the Gaussian of distance that fits these very images best."""

        def kl(log_sigma: float) -> float:
            return self.kl_of(gaussian_map(self.grid, math.exp(log_sigma)))

        low, high = math.log(0.1), math.log(10 * max(self.grid))
        step = (high - low) / 24
        near = min(
            (low + index * step for index in range(25)), key=kl
        )  # so that a second valley cannot trap the search
        found = minimize_scalar(kl, bounds=(near - step, near + step), method="bounded", options={"xatol": 1e-5})
        return math.exp(float(found.x)), float(found.fun)


def patch_objects(masks: Tensor, grid: Grid) -> Tensor:
    """Which object each patch belongs to: the one that covers more than half of its pixels.

    Args:
        masks: (B, H, W) uint8; 0 background, 255 unknown, any other value an object. Sides that are no multiple of the
            grid's are first stretched to one, pixel by pixel.
        grid: (h, w).

    Returns:
        int64 (B, n): 0 background, k an object, `MIXED` where nothing covers more than half, `UNKNOWN` where the
        unknown does.
    """
    batch, height, width = masks.shape
    h, w = grid
    whole = (-(-height // h) * h, -(-width // w) * w)
    if whole != (height, width):
        masks = F.interpolate(masks.unsqueeze(1), whole, mode="nearest-exact").squeeze(1)
    pixels = rearrange(masks, "b (h p) (w q) -> b (h w) (p q)", h=h, w=w)
    middle = pixels.median(-1, keepdim=True).values  # what covers more than half is the median
    covers = 2 * (pixels == middle).sum(-1) > pixels.shape[-1]
    owners = torch.where(covers, middle.squeeze(-1).long(), MIXED)
    return torch.where(owners == 255, UNKNOWN, owners)


def colour_similarity(images: Tensor, grid: Grid) -> Tensor:
    """Minus the distance between the mean colours of patches: (B, 3, H, W) to (B, n, n). Needs no learning."""
    colours = F.adaptive_avg_pool2d(images, grid).flatten(2).mT  # B n 3
    return -torch.cdist(colours, colours, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class ObjectScores:
    """How well attention ranks an object's own patches first.

    auc: per query on an object, the chance that one of its other patches is attended more than a patch that is not
    its own (background, other objects, mixed), ties one half; mean over queries. auc_distance_matched: the same over
    pairs at equal distance from the query only, each pair counting once, so that distance alone scores exactly 0.5.
    queries, pairs: what the two rest on.
    """

    auc: float
    auc_distance_matched: float
    queries: int
    pairs: int


class ObjectRanking:
    """Accumulates `ObjectScores` over batches."""

    def __init__(self) -> None:
        self._auc = 0.0
        self._queries = 0
        self._wins = 0.0
        self._pairs = 0.0

    def add(self, scores: Tensor, objects: Tensor, grid: Grid) -> None:
        """Take in one batch.

        Args:
            scores: (B, n, n), or (n, n) for all images; row q ranks all patches for query q. Only order matters.
            objects: (B, n) from `patch_objects`.
            grid: (h, w).

        Raises:
            MuseError: a score is not finite.
        """
        if not torch.isfinite(scores).all():
            raise MuseError("attention holds values that are not finite", hint="the checkpoint diverged")
        scores = scores.expand(len(objects), -1, -1)
        image, query = torch.nonzero(objects > 0, as_tuple=True)
        if not len(image):
            return
        rows = scores[image, query]  # Q n
        same = objects[image] == objects[image, query][:, None]
        distances = squared_distances(grid).to(objects.device)
        rings = torch.unique(distances, return_inverse=True)[1]  # 0 is the query itself
        left_out = objects[image] == UNKNOWN
        wins, pairs = _wins(rows, same, _apart(rings.clamp_max(1)[query], left_out))
        counted = pairs > 0
        self._auc += float((wins[counted] / pairs[counted]).sum())
        self._queries += int(counted.sum())
        wins, pairs = _wins(rows, same, _apart(rings[query], left_out))
        self._wins += float(wins.sum())
        self._pairs += float(pairs.sum())

    def merge(self, other: Self) -> None:
        """Take in everything another one has seen."""
        self._auc += other._auc
        self._queries += other._queries
        self._wins += other._wins
        self._pairs += other._pairs

    def result(self) -> ObjectScores | None:
        """Return the scores, or None when no query had both a patch of its own object and another to compare."""
        if not self._queries or not self._pairs:
            return None
        return ObjectScores(self._auc / self._queries, self._wins / self._pairs, self._queries, int(self._pairs))


def _apart(groups: Tensor, left_out: Tensor) -> Tensor:
    """Put keys (Q, n) that must not be compared into a group of their own, where no key is of the query's object."""
    return torch.where(left_out, int(groups.max()) + 1, groups)


def _wins(rows: Tensor, same: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Count, per query, pairs (own patch, other patch) of one group, and those in which the own patch scores higher.

    By ranks, so that it costs n log n and not n^2. The query itself must be alone in its group.

    Args:
        rows: (Q, n) scores. same: (Q, n) whether the key is of the query's object. groups: (Q, n) int64 from 0.

    Returns:
        (wins, pairs), float64 (Q,) each; a tie is half a win.
    """
    n = rows.shape[1]
    place = torch.searchsorted(rows.sort(-1).values, rows.contiguous())  # equal scores share a place
    keys = groups * n + place  # sorts by group, then by score
    ordered = keys.sort(-1).values
    below = torch.searchsorted(ordered, keys)
    upto = torch.searchsorted(ordered, keys, right=True)
    before_group = torch.searchsorted(ordered, (groups * n).contiguous())
    rank = (below + upto + 1).double() / 2 - before_group  # within the group, from 1, ties averaged
    shape = (len(rows), int(groups.max()) + 1)
    own = torch.zeros(shape, dtype=torch.float64, device=rows.device).scatter_add_(1, groups, same.double())
    size = torch.zeros_like(own).scatter_add_(1, groups, torch.ones_like(rank))
    wins = (rank * same).sum(-1) - (own * (own + 1) / 2).sum(-1)
    return wins, (own * (size - own)).sum(-1)
