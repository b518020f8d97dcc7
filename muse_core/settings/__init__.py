"""Typed settings, and the four layers they come from."""

from muse_core.settings.explain import KeyInfo as KeyInfo, describe_keys as describe_keys
from muse_core.settings.layers import (
    Origins as Origins,
    SettingsError as SettingsError,
    read_settings_file as read_settings_file,
    resolve as resolve,
)
from muse_core.settings.section import Section as Section
