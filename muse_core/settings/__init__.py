"""Typed settings, and the four layers they come from."""

from muse_core.settings.explain import KeyInfo as KeyInfo
from muse_core.settings.explain import describe_keys as describe_keys
from muse_core.settings.layers import Origins as Origins
from muse_core.settings.layers import SettingsError as SettingsError
from muse_core.settings.layers import read_settings_file as read_settings_file
from muse_core.settings.layers import resolve as resolve
from muse_core.settings.section import Section as Section
