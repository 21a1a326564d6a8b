"""Typed configs: defaults < TOML file < flags < --set, with every mistake reported at once."""

from bridge.config.base import Config
from bridge.config.choices import Others, choice, described_by, is_plain, owned, plain_fields
from bridge.config.describing import (
    Legal,
    Setting,
    docstring_meanings,
    meanings,
    one_of,
    settings_of,
)
from bridge.config.keys import either, flatten, valid_keys
from bridge.config.loading import (
    config_json,
    config_sha256,
    decisive_json,
    keys_in,
    load_config,
)
from bridge.config.printing import config_toml

__all__ = [
    "Config",
    "Legal",
    "Others",
    "Setting",
    "choice",
    "config_json",
    "config_sha256",
    "config_toml",
    "decisive_json",
    "described_by",
    "docstring_meanings",
    "either",
    "flatten",
    "is_plain",
    "keys_in",
    "load_config",
    "meanings",
    "one_of",
    "owned",
    "plain_fields",
    "settings_of",
    "valid_keys",
]
