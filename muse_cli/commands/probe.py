"""`muse probe NAME`: every probe is a plugin; its options are made from its settings."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from muse_cli.commands.ls import plugins_of, section
from muse_cli.options import (
    Checkpoint,
    ConfigFile,
    Data,
    Devices,
    Limit,
    OverwriteFile,
    ScoresFile,
    Sets,
    TrainLimit,
    ValData,
)
from muse_cli.output import out
from muse_cli.plugins import PluginGroup, command_of, finish
from muse_core.registry import Plugin

if TYPE_CHECKING:
    from muse_core.evaluation.processes import Team
    from muse_core.evaluation.protocol import Scores


class ProbeGroup(PluginGroup):
    """The probes that are installed, each as a command."""

    group: ClassVar[str] = "muse.probes"

    def build(self, plugin: Plugin) -> TyperCommand | TyperGroup:
        """Make the command of a probe."""
        name = plugin.name
        learns = " --data demo:train --train-limit 512" if plugin.load().train else ""
        examples = (f"muse probe {name} tiny{learns} --val-data demo:val --limit 256",)
        command: TyperCommand | TyperGroup = finish(command_of(probe_function(plugin)), plugin, examples)
        return command


app = typer.Typer(cls=ProbeGroup, add_completion=False)


@app.callback(invoke_without_command=True)
def probe(ctx: typer.Context) -> None:
    """Measure frozen features with a probe; without a name, list the probes."""
    if ctx.invoked_subcommand is None:
        probes = plugins_of("muse.probes")
        out.result({"probes": probes}, section("probes", probes, titled=False))


def probe_function(plugin: Plugin) -> Callable[..., None]:
    """Make the function behind a probe's command: the shared options, then one for each of its settings.

    Raises:
        MuseError: with exit code 5, when its settings cannot be imported or take a name that every probe has.
    """
    from muse_cli.generated import option_of, read_typed
    from muse_core.registry import broken
    from muse_core.settings.section import leaves

    model = plugin.load_path(plugin.load().settings)
    shared = inspect.signature(run_probe).parameters
    own = {path: option_of(path, field) for path, field in leaves(model).items()}
    taken = [option.name for option in own.values() if option.name in shared]
    if taken:
        raise broken(plugin, f"every probe has the option --{taken[0]}, so its settings cannot use that name")

    def run(**values: Any) -> None:
        flags = {".".join(path): read_typed(values.pop(option.name), path, model) for path, option in own.items()}
        run_probe(plugin, flags, **values)

    parameters = [p for name, p in shared.items() if name not in ("plugin", "flags")]
    run.__signature__ = inspect.Signature([*parameters, *own.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in run.__signature__.parameters.values()}  # type: ignore[attr-defined]
    run.__doc__ = plugin.declaration.help
    return run


def run_probe(
    plugin: Plugin,
    flags: dict[str, Any],
    checkpoint: Checkpoint = None,
    data: Data = None,
    val_data: ValData = None,
    limit: Limit = None,
    train_limit: TrainLimit = None,
    devices: Devices = None,
    out_file: ScoresFile = None,
    overwrite: OverwriteFile = False,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Measure with one probe."""
    from muse_cli.briefing import DataWanted, brief
    from muse_cli.scores import give
    from muse_cli.settings import resolve_as
    from muse_cli.team import measure
    from muse_cli.tokenizer import both_or_demo, chosen_or_newest, data_or_demo
    from muse_core.ownership import refuse_taken
    from muse_core.settings.measuring import ProbeSettings

    model = plugin.load_path(plugin.declaration.settings)
    options, _ = resolve_as(model, f"probe-{plugin.name}", flags, sets, config)
    common = {
        "train_data": data,
        "data": val_data,
        "limit": limit,
        "train_limit": train_limit,
        "devices": devices,
    }
    shared, _ = resolve_as(ProbeSettings, "probe", common, None, None)
    learns = plugin.load().train
    if learns:
        train, held_out = both_or_demo(shared.train_data, shared.data)
        shared = shared.model_copy(update={"train_data": train, "data": held_out})
    else:
        shared = shared.model_copy(update={"data": data_or_demo(shared.data, "--val-data")})
    refuse_taken(out_file, overwrite, [shared.data, shared.train_data], "json")
    where = chosen_or_newest(checkpoint)
    refuse_absent_layers(where, options)
    data_wanted = [DataWanted(str(shared.data), limit=shared.limit)]
    if plugin.declaration.train:
        data_wanted = [DataWanted(shared.train_data or "demo:train", "train", shared.train_limit), *data_wanted]
    how = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in options if value is not None)
    brief(f"probe {plugin.name}", [where], data_wanted, how or "without options", shared.devices)
    values = {
        "name": plugin.name,
        "where": where,
        "options": options.model_dump(mode="json"),
        "shared": shared.model_dump(mode="json"),
    }
    give(measure("muse_cli.commands.probe:measured", values, shared.devices), where, out_file, overwrite=overwrite)


def refuse_absent_layers(where: str, options: object) -> None:
    """Refuse layers that muse's own probes would ask a tokenizer for in vain, before it is loaded.

    Raises:
        MuseError: it has no such layer, or the options contradict each other.
    """
    from muse_cli.briefing import refuse_layers
    from muse_core.evaluation.options import KnnOptions, LinearOptions, TopologyOptions, layer_names
    from muse_core.model.blocks import attention_layers
    from muse_core.model.locating import look_up

    if isinstance(options, LinearOptions | KnnOptions):
        refuse_layers(where, layer_names(options.layers, getattr(options, "blocks", 0)))
    blocks = look_up(where).blocks
    if isinstance(options, TopologyOptions) and blocks is not None:
        attention_layers(options.layer, blocks)


def measured(
    device: str, team: "Team", name: str, where: str, options: dict[str, Any], shared: dict[str, Any]
) -> "Scores":
    """Measure with one probe, alone or as one of several processes that share the reading of features."""
    from muse_cli.tokenizer import load
    from muse_core import probe as measure
    from muse_core.registry import find
    from muse_core.settings.measuring import ProbeSettings

    plugin, common = find("muse.probes", name), ProbeSettings.model_validate(shared)
    return measure(
        name,
        load(where, device, *plugin.load().needs),
        data=common.train_data or "demo:train",
        val_data=str(common.data),
        settings=plugin.load_path(plugin.declaration.settings).model_validate(options),
        limit=common.limit,
        train_limit=common.train_limit,
        team=team,
        progress=out.progress(),
    )
