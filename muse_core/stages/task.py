"""The tokenizer as a task: one of the three stages, on one process."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from muse_core.data.sample import Batch
from muse_core.model.checkpoint import CheckpointState, document_of, stored_weights
from muse_core.model.network import MuseNetwork
from muse_core.stages.adversary import Adversary, Judged
from muse_core.stages.objective import Objective, Trainee
from muse_core.stages.validation import Validation
from muse_core.training.held_out import Score
from muse_core.training.task import Partition, StepLosses

Read = Callable[[Mapping[int, int]], Generator[Batch]]
"""Opens the training data where each lane had come."""


@dataclass(frozen=True)
class TokenizerTask:
    """One stage of a network.

    module: the network as one call. state: what a checkpoint says of it, but for step and state of training.
    """

    title: str
    network: MuseNetwork
    module: Trainee
    partition: Partition
    objective: Objective
    opponent: Adversary | None
    read: Read
    validation: Validation | None
    state: CheckpointState
    decides: Score

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weights of the losses."""
        return self.objective.weights

    def batches(self, cursor: Mapping[int, int]) -> Generator[Batch]:
        """Yield batches of this process from where each lane had come."""
        return self.read(cursor)

    def losses(self, module: Any, batch: Batch, step: int) -> StepLosses:
        """Return the active losses of a part of a batch, and what the discriminator is to see of it."""
        output = self.objective.run(module, batch)
        terms, negatives = self.objective.terms(output, batch, self.network.connector.logit_scale)
        numbers = {} if negatives is None else {"negatives": negatives}
        if self.opponent is None or step < self.opponent.start:
            return StepLosses(terms, numbers)
        share = output.decoded.share
        terms["adversarial"] = self.opponent.term(output.reconstruction, share)
        real = batch.images.index_select(0, output.decoded.rows)
        return StepLosses(terms, numbers, Judged(real, output.reconstruction.detach(), share))

    def validate(self) -> Mapping[str, float]:
        """Return PSNR and topology KL on the held-out images, where there are some."""
        return self.validation.measure(self.network, self.objective) if self.validation else {}

    def draw(self) -> bytes | None:
        """Draw held-out images, their reconstructions and attention."""
        return self.validation.draw(self.network, self.objective) if self.validation else None

    def stored(self) -> Mapping[str, Tensor]:
        """Return all weights but those of an encoder that never trained."""
        return stored_weights(self.network, self.state.encoder_trained)

    def identity(self) -> dict[str, Any]:
        """Return size, stage, numbers of the connector and hashes of frozen parts."""
        return document_of(self.network, self.state)
