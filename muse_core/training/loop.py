"""The training loop, the same for everything that trains: a task says what is computed, and nothing else differs."""

import torch

from muse_core.distributed import any_rank, is_first, world
from muse_core.training.checkpointing import save
from muse_core.training.interrupt import stop_requests
from muse_core.training.recording import mean_losses
from muse_core.training.task import StepLosses
from muse_core.training.trainer import Trainer


def train(trainer: Trainer) -> int:
    """Train until the last step, or until somebody asks to stop; returns the number of steps done.

    Raises:
        MuseError: a loss is not finite, or a weight that should train is reached by no loss.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of the last whole step was written first.
    """
    settings, steps, done = trainer.settings, trainer.settings.schedule.steps, trainer.first_step
    progress = trainer.recorder.progress
    with stop_requests() as stop, progress.track(f"{trainer.task.title} step", steps, "steps") as tracker:
        tracker.advance(done)
        for step in range(trainer.first_step, steps):
            trainer.set_lr(step)
            parts: list[StepLosses] = []
            for part in range(settings.accumulation):
                with trainer.learner.part(last=part == settings.accumulation - 1):
                    parts.append(trainer.losses(step))
            norms = trainer.update(step)
            losses = mean_losses(parts)
            losses.terms.update(trainer.oppose(parts, step))

            done = step + 1
            tracker.advance()
            due = settings.intervals.due(done, steps)
            if due:
                trainer.guard.look()
            if "log" in due:
                rates = trainer.reader.speed.read(world())
                trainer.recorder.step(done, losses, norms, trainer.learner.optimization.lr, rates, tracker)
            if "evaluate" in due:
                evaluate(trainer, done)
            if "sample" in due:
                draw(trainer, done)
            stopping = any_rank(stop.signal is not None)
            if "save" in due or stopping:
                save(trainer, done)
            if stopping:
                raise stop.error()
    return done


def evaluate(trainer: Trainer, done: int) -> None:
    """Measure the averaged weights on held-out data."""
    if is_first():
        with torch.no_grad(), trainer.learner.averaged():
            scores = trainer.task.validate()
        if scores:
            trainer.recorder.scores(done, scores)


def draw(trainer: Trainer, done: int) -> None:
    """Draw held-out data with the averaged weights."""
    if is_first():
        with torch.no_grad(), trainer.learner.averaged():
            figure = trainer.task.draw()
        if figure is not None:
            trainer.recorder.figure(done, figure)
