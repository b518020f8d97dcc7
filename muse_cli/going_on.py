"""Going on with what was stopped: with a run, and with the stages that were to come after it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_cli.output import out
from muse_cli.planning import devices_for, say_first, stages_of, tell
from muse_core.command_lines import quote
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.runs import RunFolder
    from muse_core.settings.train import TrainSettings
    from muse_core.stages.chain import Stage


def train_chain(stages: "Sequence[Stage]", after: Path | None = None) -> list[dict[str, Any]]:
    """Train stages, each from the result of the one before it; returns what --json prints of each.

    after: the run that the first one begins from, where that is not for its settings to say.
    """
    from muse_cli.launch import start

    done: list[dict[str, Any]] = []
    for number, stage in enumerate(stages):
        before = done[-1]["folder"] if done else after
        begun = stage.begun_from(str(before)) if before else stage
        try:
            done.append(start(begun.settings, begun.origins, stages[number + 1 :]))
        except KeyboardInterrupt as error:
            tell_what_is_saved(error)
            raise
    return done


def tell_done(done: list[dict[str, Any]]) -> None:
    """Print the folders of the runs that were made."""
    document = done[0] if len(done) == 1 else {"command": "train", "runs": done}
    out.result(document, "\n".join(one["folder"] for one in done))


def tell_what_is_saved(error: KeyboardInterrupt) -> None:
    """Let the end of a command say which step of its run is saved, as far as there is a run, and how to go on."""
    from muse_core.run_checkpoints import step_of
    from muse_core.runs import RunFolder, resume_command
    from muse_core.stages.chain import stages_after, stages_text

    folder: Path | None = getattr(error, "run", None)
    if folder is None:
        return
    last, later = RunFolder(folder).last_checkpoint(), stages_after(folder)
    saved = f"step {step_of(last)} of {folder} is saved" if last else f"no step of {folder} was saved yet"
    more = f" goes on with it, and then with {stages_text(later)}" if later else ""
    vars(error).update(saved=saved, hint=resume_command(folder) + more)


def go_on(
    where: str, flags: Mapping[str, Any], sets: list[str], config: Path | None, dry_run: bool, assume: str | None
) -> None:
    """Resume a run, and train the stages that were to come after it.

    Only what cannot change a result may be set anew, and the place of data that have moved; what is typed as it was
    typed then changes nothing, so that the same command with --resume goes on.

    Args:
        where: the run, or "latest".
        flags: dotted key -> value of the options; run.stage as it was typed.
        sets: "KEY=VALUE" of --set.
        config: a file of settings, which is refused.
        dry_run: print how it would go on, and stop.
        assume: the machine to plan for.

    Raises:
        MuseError: another setting was given (exit code 3), or there is no such run.
    """
    from muse_cli.joining import as_seen
    from muse_core.run_search import unfinished
    from muse_core.settings import resolve
    from muse_core.settings.train import TrainSettings

    run = as_seen(unfinished(where))
    say_first(f"train: goes on with {run.path}")
    from muse_core.stages.chain import stages_after
    from muse_core.stages.way_on import refuse_finished
    from muse_core.training.identity import MAY_CHANGE, MAY_MOVE

    later = stages_after(run.path)
    if not later:
        refuse_finished(run, flags.get("training.steps"), flags.get("data.train"))
    flags, other = apart_from_names(run, flags, later)
    # No variables and no preset: the run's own settings, and what was typed now.
    settings, origins = resolve(
        TrainSettings, command="train", flags=flags, sets=sets, file=run.path / "config.yaml", environ={}
    )
    typed = {key for key, value in flags.items() if value is not None} | {text.partition("=")[0] for text in sets}
    allowed = typed & (MAY_CHANGE | MAY_MOVE.keys())
    refuse_other(run, [*other, *unlike(run, settings, typed - allowed), *(["--config"] if config else [])])
    later = [stage.with_values(settings, sorted(allowed)) for stage in later]
    if dry_run:
        show_plan(run, settings, later, moved=bool(allowed & MAY_MOVE.keys()), assume=assume)
        return
    done = [] if run.status.state == "finished" else [resumed(run, settings, {key: origins[key] for key in allowed})]
    tell_done([*done, *train_chain(later, run.path)])


def apart_from_names(
    run: "RunFolder", flags: Mapping[str, Any], later: "Sequence[Stage]"
) -> tuple[dict[str, Any], list[str]]:
    """Return the flags without what only says which run or chain is meant, and those of these that mean another one."""

    text, place = flags.get("run.stage"), flags.get("run.out")
    stage = run.status.stage
    stages = [stage, *(one.settings.run.stage for one in later)]
    typed = stages_of(text) if text else stages
    other = [] if stage in typed and typed[typed.index(stage) :] == stages else ["run.stage"]
    places = [Path(place), Path(place) / f"stage{stage}"] if place else [run.path]
    other += [] if run.path.resolve() in [one.resolve() for one in places] else ["run.out"]
    named = {"run.stage", "run.out"}
    if stage in typed[1:]:  # what the first stage began from
        named.add("run.init")
    return {key: value for key, value in flags.items() if key not in named}, other


def unlike(run: "RunFolder", settings: "TrainSettings", keys: set[str]) -> list[str]:
    """Return the keys whose value is not the one that a run has."""
    from muse_core.settings.train import TrainSettings

    before, now = (one.model_dump() for one in (TrainSettings.model_validate(run.settings()), settings))
    return sorted(key for key in keys if _at(before, key) != _at(now, key))


def _at(document: Mapping[str, Any], key: str) -> Any:
    value: Any = document
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def refuse_other(run: "RunFolder", keys: list[str]) -> None:
    """Refuse settings that would make it another run.

    Raises:
        MuseError: there are some, with exit code 3.
    """
    if keys:
        raise MuseError(
            f"--resume goes on with {run.path} as it was; {', '.join(keys)} cannot change",
            hint=f"muse train --init {quote(run.path)} ... for a new run from its weights",
            exit_code=ExitCode.SETTINGS,
        )


def show_plan(
    run: "RunFolder", settings: "TrainSettings", later: "Sequence[Stage]", *, moved: bool, assume: str | None
) -> None:
    """Print how a run would go on. moved: its data are read from another place.

    Raises:
        MuseError: something is missing, or lies not where the data were moved to.
    """
    from muse_core.stages.chain import stages_text
    from muse_core.stages.start import plan_to_resume
    from muse_core.training.identity import refuse_absent, refuse_moved

    refuse_absent(run, settings)
    if moved:
        refuse_moved(run, settings)
    plan = plan_to_resume(run, settings, cost=True, devices=devices_for(settings, assume))
    then = [f"then     {stages_text(later)}"] if later else []
    tell([replace(plan, lines=[*plan.lines, *then])])


def resumed(run: "RunFolder", settings: "TrainSettings", origins: Mapping[str, str]) -> dict[str, Any]:
    """Go on with one run. origins: of the settings that were given anew.

    Raises:
        MuseError: its data are not there, or it cannot go on.
    """
    from muse_cli.launch import devices_in, refuse_unfit, resume
    from muse_cli.settings import memory_hint
    from muse_core.files import read_json
    from muse_core.stages.start import plan_to_resume
    from muse_core.training.identity import MAY_MOVE, refuse_absent, refuse_moved, with_absolute_paths

    refuse_absent(run, settings)
    out.memory_hint = memory_hint(settings)
    refuse_unfit(settings)
    if origins.keys() & MAY_MOVE.keys():  # of several processes each refuses for itself, as none has met others yet
        refuse_moved(run, settings)
    plan_to_resume(run, settings, devices=devices_in(settings)).refuse_if_incomplete()
    before = read_json(run.path / "origins.json")
    with run.held():
        document = with_absolute_paths(settings.model_dump(mode="json"))
        run.write_settings(document, {**before, **origins})
    try:
        return resume(run, settings)
    except KeyboardInterrupt as error:
        tell_what_is_saved(error)
        raise
