"""Named tensors into a network: strictly, and with every difference counted by prefix."""

import hashlib
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from muse_core.errors import MuseError


def fill(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    absent: Iterable[str] = (),
    source: str,
    assign: bool = False,
    remedy: str = "muse ls runs",
) -> None:
    """Load weights strictly; only names under the declared prefixes may be absent.

    Args:
        network: filled in place. weights: by our names. absent: prefixes whose names need not be there.
        source: where the weights came from, for messages. remedy: what to do when they do not fit.
        assign: take the tensors themselves instead of copying them, for a network that was built without weights.

    Raises:
        MuseError: names what is missing, unexpected, or of another shape, by prefix.
    """
    refuse_misfit(network, weights, absent=absent, source=source, remedy=remedy)
    network.load_state_dict(dict(weights), strict=False, assign=assign)


def refuse_misfit(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    absent: Iterable[str] = (),
    source: str,
    remedy: str = "muse ls runs",
) -> None:
    """Refuse weights that are not those of a network, which itself may be without any.

    Raises:
        MuseError: names what is missing, unexpected, or of another shape, by prefix.
    """
    own = network.state_dict()
    prefixes = tuple(absent)
    missing = [name for name in own if name not in weights and not name.startswith(prefixes)]
    unexpected = [name for name in weights if name not in own]
    misshapen = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    problems = [
        f"{len(names)} {what} ({by_prefix(names)})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise MuseError(f"{source} does not fit the network: {'; '.join(problems)}", hint=remedy)


def by_prefix(names: list[str]) -> str:
    """Count names by their first two words."""
    counts: dict[str, int] = {}
    for name in names:
        prefix = ".".join(name.split(".")[:2])
        counts[prefix] = counts.get(prefix, 0) + 1
    return ", ".join(f"{prefix}: {count}" for prefix, count in counts.items())


def digest_of(network: nn.Module) -> str:
    """Hash the weights of a network: sha256 over names and float32 bytes, whatever layout they were read from."""
    hashed = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(weight.detach().float().cpu().contiguous().numpy().data)
    return hashed.hexdigest()
