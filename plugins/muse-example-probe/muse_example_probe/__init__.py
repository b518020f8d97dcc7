"""An example probe: how many dimensions the features of a tokenizer really use.

This file is all that muse imports to list the probe, so it names the code instead of importing it.
"""

from muse_core.evaluation.spec import ProbeSpec

PROBE = ProbeSpec(
    help="How many dimensions the features really use.",
    target="muse_example_probe.work:measure",
    settings="muse_example_probe.work:Settings",
    train=False,
)
