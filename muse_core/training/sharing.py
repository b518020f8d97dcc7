"""What processes tell each other beside gradients."""

from typing import Any

import torch
import torch.distributed as dist

from muse_core.losses.processes import process_count


class Sharing:
    """A question to all processes, over their CPUs: asked over their GPUs, each would wait for its own every step."""

    def __init__(self) -> None:
        several = process_count() > 1
        separate = several and dist.get_backend() != "gloo"
        self._group: Any = dist.new_group(backend="gloo") if separate else None

    def any(self, flag: bool) -> bool:
        """Say whether a flag is up in any process; all of them have to ask."""
        if process_count() == 1:
            return flag
        flags = torch.tensor(float(flag))
        dist.all_reduce(flags, group=self._group)
        return bool(flags > 0)
