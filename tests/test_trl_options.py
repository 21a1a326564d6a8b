"""The table of TRL's options: each is explained once, and every name in it exists."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from bridge.config import valid_keys
from nlhf.config import LanguageConfig

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "trl-options.md"
OPTIONS = json.loads((ROOT / "tests" / "cases" / "trl_options.json").read_text())["options"]
VERDICTS = ("same", "other", "refused")


def rows():
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if line.startswith("| `"):
            yield re.findall(r"`([^`]+)`", cells[0]), *cells[1:]


def test_no_option_is_unexplained_and_none_twice():
    named = [name for names, *_ in rows() for name in names]
    assert sorted(named) == OPTIONS


def test_every_verdict_is_one_of_three_and_names_what_exists_or_says_why():
    keys = set(valid_keys(LanguageConfig))
    for names, verdict, here, notes in rows():
        assert verdict in VERDICTS, names
        for key in re.findall(r"`([^`]+)`", here):
            assert key in keys, (names, key)
        assert verdict != "same" or here, names
        assert verdict != "other" or here or notes, names
        assert verdict != "refused" or (notes and not here), names


def test_settings_in_the_notes_exist():
    keys = set(valid_keys(LanguageConfig))
    for names, _, _, notes in rows():
        for said in re.findall(r"`([a-z_.]+)(?:=[^`]*)?`", notes):
            known = said in keys or said in OPTIONS or "." in said or said == "num_tokens"
            known |= said in ("nash-md", "tournament", "xpo")
            assert known, (names, said)


@pytest.mark.slow
def test_the_list_is_trl_s_own():
    config = pytest.importorskip("trl.experimental.nash_md").NashMDConfig
    assert sorted(field.name for field in dataclasses.fields(config)) == OPTIONS
