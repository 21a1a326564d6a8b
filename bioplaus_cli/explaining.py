"""`--help` of commands with an estimator: shows the settings of the named estimator."""

from __future__ import annotations

from itertools import pairwise

import click

from bioplaus_cli.shared import Spread

_WORDS = "words"


class Explained(Spread):
    """A command whose --help also explains the settings of each `--estimator` given with it."""

    prefix = "estimator."
    """The prefix of a setting's name in its key."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words of the command line, since parsing ends at --help."""
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def taken(self, setting: str) -> bool:
        """Whether the command has a key for a setting."""
        return True

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each estimator given; if there is none, say how to ask for one."""
        names = _values(ctx.meta.get(_WORDS, ()), "--estimator")
        if not names:
            with formatter.section("Settings of an estimator"):
                formatter.write_text(f"{ctx.command_path} --estimator NAME --help lists its own.")
        for name in names:
            self._explain(name, formatter)

    def _explain(self, name: str, formatter: click.HelpFormatter) -> None:
        from bioplaus.config.describing import described

        summary, settings = described(name)
        rows = [
            (f"--set {self.prefix}{each.name}={_plain(each.default)}", each.meaning or "-")
            for each in settings
            if self.taken(each.name)
        ]
        with formatter.section(f"Settings of the estimator {name}"):
            if summary:
                formatter.write_text(summary)
            if rows:
                formatter.write_dl(rows, col_max=40)
            else:
                formatter.write_text("It has none of its own.")


class Compared(Explained):
    """The same for `gradcheck`, whose keys are shared by several estimators."""

    prefix = ""

    def taken(self, setting: str) -> bool:
        """Whether one of the keys has this name."""
        from bioplaus.config import GradcheckConfig

        return setting in GradcheckConfig.model_fields


def _values(words: tuple[str, ...], option: str) -> list[str]:
    """The values given to an option on a command line, without repeats."""
    found = [after for word, after in pairwise(words) if word == option]
    found += [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    return list(dict.fromkeys(found))


def _plain(value: object) -> str:
    return "..." if value is ... else f"{value:g}" if isinstance(value, float) else str(value)
