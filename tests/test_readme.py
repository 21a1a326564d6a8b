"""The README's commands are tested, and their options exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

import cli
from bioplaus_cli.shared import Spread

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CI = (ROOT / ".ci" / "run").read_text("utf-8")
INSTALL = ("pip install . && python cli.py eqprop-run", 'pip install ".[test]" && pytest')
# Not ours to run: other projects' programs that a reader has or gets elsewhere.
FOREIGN = ("cd", "git", "apt-get", "sudo")
SHELL_LINE = re.compile(r"^\s*(\$ )?(pip|python|pytest|bioplaus)\s", re.MULTILINE)


def fences(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[str]:
    """The lines of all shell blocks, continued ones joined, without comments."""
    joined = "".join(body for language, body in fences(text) if language in ("bash", "sh"))
    lines = re.sub(r"\\\n\s*", "", joined).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command in a line, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if set(word) <= set("&|;"):
            commands.append([])
        elif set(word) <= set("<>"):
            next(words)
        elif commands[-1] or not re.match(r"\w+=", word):
            commands[-1].append(word)
    return [words for words in commands if words]


def check_arguments(
    command: click.Command, arguments: list[str], parent: click.Context | None = None
) -> str | None:
    """Parse like click, except for the values of files, and run nothing.

    Returns:
        The name of the innermost command.

    Raises:
        click.UsageError: no such command or option, a missing or surplus argument, a wrong value.
    """
    context = click.Context(command, info_name=command.name, parent=parent)
    # A group's own options come first; its parser stops at the command's name.
    context.allow_interspersed_args = not isinstance(command, click.Group)
    if isinstance(command, Spread):
        arguments = command.spread(arguments)
    values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    if isinstance(command, click.Group) and rest:
        _, chosen, rest = command.resolve_command(context, rest)
        assert chosen is not None
        return check_arguments(chosen, rest, context)
    if "--help" in arguments:
        return command.name
    if rest:
        raise click.UsageError(f"unexpected arguments {rest}", context)
    for parameter in command.params:
        value = values.get(parameter.name or "")
        missing = parameter.name not in values or parameter.value_is_missing(value)
        if missing and parameter.required:
            raise click.MissingParameter(ctx=context, param=parameter)
        if not missing and not isinstance(parameter.type, click.Path | click.File):
            parameter.type_cast_value(context, value)
    return command.name


def check_command(words: list[str]) -> None:
    """Fail unless a test or .ci/run exercises the command."""
    program, *arguments = words
    if program == "bioplaus":
        check_arguments(cli.main, arguments)
    elif words[:2] == ["python", "cli.py"]:
        check_arguments(cli.main, arguments[1:])
    elif program == "python" and re.fullmatch(r"(benchmarks|examples)/\w+\.py", arguments[0]):
        assert (ROOT / arguments[0]).is_file(), f"{arguments[0]} is not there"
        texts = [CI, *(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))]
        name = Path(arguments[0]).stem
        assert any(name in text for text in texts), f"no test runs {arguments[0]}"
    elif words[:2] == ["pip", "install"]:
        extras = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", arguments[-1])
        assert extras, f"{' '.join(words)} installs something else than this project"
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        known = project["optional-dependencies"].keys()
        assert not extras[1] or known >= set(extras[1].split(",")), f"{words}: no such extra"
    elif program == "eval":  # tests/test_completion.py does so in each shell
        assert re.fullmatch(r"\$\(_BIOPLAUS_COMPLETE=(bash|zsh)_source bioplaus\)", words[1])
    else:
        assert program in (*FOREIGN, "pytest"), f"neither a test nor .ci/run runs {words}"


@pytest.mark.parametrize("line", INSTALL)
def test_the_two_first_commands_are_in_the_readme_and_in_ci_word_for_word(line: str) -> None:
    assert line in command_lines(README)
    assert line in CI


@pytest.mark.parametrize("line", command_lines(README))
def test_every_command_of_the_readme_is_exercised(line: str) -> None:
    commands = simple_commands(line)
    assert commands
    for words in commands:
        check_command(words)
        for word in words:
            assert not word.startswith("configs/") or (ROOT / word).is_file(), f"no {word}"


def test_no_command_hides_in_a_block_that_is_not_marked_as_shell() -> None:
    hidden = [body for language, body in fences(README) if language not in ("bash", "sh")]
    assert not [body for body in hidden if SHELL_LINE.search(body)]


@click.group()
@click.option("--verbose", is_flag=True)
def program(verbose: bool) -> None:
    """Made up."""
    raise AssertionError("parsing runs nothing")


@program.command()
@click.argument("config", type=click.Path(exists=True))
@click.option("--epochs", type=click.IntRange(min=1))
@click.option("--device", type=click.Choice(["cpu", "cuda"]))
@click.option("--pairs", required=True, type=click.Path(exists=True))
def train(**_: object) -> None:
    """Made up."""
    raise AssertionError("parsing runs nothing")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trai C --pairs F", "No such command"),
        ("train C --pairs F --epoch-count 3", "No such option"),
        ("--loud train C --pairs F", "No such option"),
        ("train C --pairs F --epochs 0", "range"),
        ("train C --pairs F --epochs some", "not a valid integer"),
        ("train C --pairs F --device gpu", "is not one of"),
        ("train C --pairs", "requires an argument"),
        ("train C --epochs 3", "pairs"),
        ("train --pairs F", "CONFIG"),
        ("train C D --pairs F", "unexpected"),
    ],
)
def test_a_command_with_wrong_options_is_told(line: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        check_arguments(program, shlex.split(line))
    assert message in caught.value.format_message()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("--verbose train gone.toml --pairs gone --epochs 2", "train"),
        ("train --help", "train"),
        ("--help", "program"),
    ],
)
def test_a_command_with_right_options_is_let_be(line: str, name: str) -> None:
    assert check_arguments(program, shlex.split(line)) == name


@pytest.mark.parametrize(
    "line",
    ["make train", "python setup.py", 'pip install ".[tset]"', "pip install torch"],
)
def test_a_command_that_nothing_exercises_is_told(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(shlex.split(line))


def test_shell_lines_are_taken_apart() -> None:
    text = "```bash\n# why\npip install . && \\\n  pytest\nA=1 python x.py > out; cd y\n```\n"
    text += "```python\nimport x\n```\n"
    lines = command_lines(text)
    assert lines == ["pip install . && pytest", "A=1 python x.py > out; cd y"]
    assert [simple_commands(line) for line in lines] == [
        [["pip", "install", "."], ["pytest"]],
        [["python", "x.py"], ["cd", "y"]],
    ]
