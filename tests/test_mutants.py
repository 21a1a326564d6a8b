"""The mutation tool tells which mutants the tests notice, and which they do not."""

import dataclasses

import pytest

from tests import mutants
from tests.mutants import Mutant, is_noticed, read_mutants

DOUBLE = "def double(x):\n    return x + x\n"
TEST = "from program import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
MUTANT = Mutant("program.py", "x + x", "x * x", ("test_program.py",))


def test_every_line_of_the_list_is_a_change_with_tests_that_exist():
    found = read_mutants()
    assert len(found) > 40
    for mutant in found:
        assert mutant.old != mutant.new
        mutant.applied_to((mutants.ROOT / mutant.file).read_text("utf-8"))
        assert mutant.tests
        assert all((mutants.ROOT / test.partition("::")[0]).is_file() for test in mutant.tests)
    assert 0 < len(read_mutants(["decoding"])) < len(found)


@pytest.mark.parametrize("text", ["", "x + x + x + x"])
def test_an_old_text_that_is_not_there_once_is_told(text):
    with pytest.raises(
        SystemExit, match=r"x \+ x  ->  x \* x: the old text stands there [02] times"
    ):
        MUTANT.applied_to(text)


@pytest.mark.slow
def test_a_mutant_lives_or_dies_by_its_tests_and_leaves_no_trace(tmp_path):
    (tmp_path / "program.py").write_text(DOUBLE)
    (tmp_path / "test_program.py").write_text(TEST)
    assert not is_noticed(MUTANT, tmp_path)  # 2 * 2 is 2 + 2
    assert is_noticed(dataclasses.replace(MUTANT, new="x - x"), tmp_path)
    assert (tmp_path / "program.py").read_text() == DOUBLE
    with pytest.raises(SystemExit, match="pytest cannot run test_other"):
        is_noticed(dataclasses.replace(MUTANT, tests=("test_other.py",)), tmp_path)


@pytest.mark.slow
def test_a_handful_of_mutants_die(capsys):
    assert mutants.main(["measuring.py"]) == 0, capsys.readouterr().out
