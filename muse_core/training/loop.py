"""The training loop, the same for every stage: what differs are the weights that train and the losses that count."""

from muse_core.training.interrupt import stop_requests
from muse_core.training.run import Run


def train(run: Run) -> int:
    """Train until the last step, or until somebody asks to stop; returns the number of steps done.

    Raises:
        MuseError: a loss is not finite, or a weight that should train is reached by no loss.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of the last whole step was written first.
    """
    done = run.first_step
    title = f"stage {run.identity.stage} step"
    with stop_requests() as stop, run.progress.track(title, run.pace.steps, "steps") as tracker:
        tracker.advance(done)
        for step in range(run.first_step, run.pace.steps):
            run.set_rate(step)
            for part in range(run.pace.accumulation):
                batch = run.next_batch()
                with run.part(part):
                    output = run.objective.run(run.trainee, batch)
                    terms = run.losses(output, batch, step)
                    run.backward(terms)
            norms = run.update(step)
            terms |= run.oppose(output, batch, step)

            done = step + 1
            tracker.advance()
            if run.is_due(done, run.pace.log_every):
                run.log(done, terms, norms, tracker)
            if run.is_due(done, run.pace.eval_every):
                run.evaluate(done)
            if run.is_due(done, run.pace.sample_every):
                run.sample(done)
            stopping = run.anywhere(stop.signal is not None)
            if run.is_due(done, run.pace.save_every) or stopping:
                run.save(done)
            if stopping:
                raise stop.error()
    return done
