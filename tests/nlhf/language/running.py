"""A small run of a language model on the command line."""

import pytest

from tests.command_line import call


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b a b b"}\n')
    (tmp_path / "held.jsonl").write_text('{"prompt": "c a"}\n')
    return tmp_path


def nash(*args, out="r.h5"):
    given = ["nash-md", "--model", "tiny:a,b,c,<end>", "--prompts", "p.jsonl", "--out", out]
    given += ["--preference", "tests.trainers:longer_wins", "--iterations", 3, "--quiet"]
    given += ["--set", "batch_size=2", "--set", "generation.max_new_tokens=3"]
    return call(*given, *args)
