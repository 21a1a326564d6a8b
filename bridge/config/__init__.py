"""Typed configs: defaults < TOML file < flags < --set, with every mistake reported at once."""

from bridge.config.base import Config
from bridge.config.choices import Others, choice, is_plain, owned, plain_fields
from bridge.config.keys import either, flatten, valid_keys
from bridge.config.loading import (
    config_json,
    config_sha256,
    decisive_json,
    keys_in,
    load_config,
)

__all__ = [
    "Config",
    "Others",
    "choice",
    "config_json",
    "config_sha256",
    "decisive_json",
    "either",
    "flatten",
    "is_plain",
    "keys_in",
    "load_config",
    "owned",
    "plain_fields",
    "valid_keys",
]
