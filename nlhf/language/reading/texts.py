"""Read a source as prompts, answers to learn, answers by prompt, or comparisons."""

from __future__ import annotations

from nlhf.language.comparisons import Comparison
from nlhf.language.prompts import Example, Prompt, key_of, text_of
from nlhf.language.reading.layout import Layout, ParsedRow, preferred
from nlhf.language.reading.registry import all_layouts, recognise
from nlhf.language.reading.rows import Refused, Row
from nlhf.language.reading.sifting import OnBadLines, Sifted, sift


def read_prompts(source: object, on_bad_lines: OnBadLines = "error") -> Sifted[Prompt]:
    """Read the prompt of every row and ignore its answers.

    Empty prompts are left out.

    Args:
        source: a file, `hf:DATASET[:split]`, or a list in memory; see `records_of`.
        on_bad_lines: see `sift`.

    Raises:
        InputError: see `sift`.
    """

    def take(row: Row, number: int) -> tuple[str, list[Prompt]]:
        row.check_text_only()
        layout, row = recognise(row, all_layouts())
        try:
            parsed = layout.read(row)
        except Refused:
            # its answers may be invalid; the prompt can be used alone
            if "prompt" not in row:
                raise
            layout, row = recognise(row, [each for each in all_layouts() if _is_prompt(each)])
            parsed = layout.read(row)
        return layout.name, [_filled(parsed.prompt)]

    reason = "empty, as in all lines; give text to answer"
    return sift(source, take, on_bad_lines, {"prompt": reason})


def read_examples(source: object, on_bad_lines: OnBadLines = "error") -> Sifted[Example]:
    """Read the prompt and the answer to learn from every row.

    The answer is a completion, or the last one of a conversation, or otherwise the preferred one.
    Rows with an empty prompt or answer are left out.

    Args:
        source: see `read_prompts`.
        on_bad_lines: see `sift`.

    Raises:
        InputError: see `sift`.
    """

    def take(row: Row, number: int) -> tuple[str, list[Example]]:
        name, parsed = _answered(row)
        prompt, answer = _filled(parsed.prompt), _answer_of(parsed)
        if not answer.strip():
            raise Refused("completion", "empty", empty=True)
        return name, [Example(prompt, answer)]

    reason = "empty, and no line has both prompt and completion; give the answers to learn"
    return sift(source, take, on_bad_lines, {"prompt": reason, "completion": reason})


def read_answers(source: object) -> dict[str, str]:
    """Read one answer per prompt; see `read_examples`. An answer may be empty.

    Answers to empty prompts are left out.

    Returns:
        The answers, by the `key_of` of their prompts.

    Raises:
        InputError: see `sift`, or a prompt has two answers.
    """
    found: dict[str, str] = {}

    def take(row: Row, number: int) -> tuple[str, list[str]]:
        if "answer" in row:
            row.values.pop("completion", None)
        name, parsed = _answered(row)
        key = key_of(_filled(parsed.prompt))
        if key in found:
            raise Refused("prompt", "answered a second time; give each prompt once", malformed=True)
        found[key] = _answer_of(parsed)
        return name, [key]

    reason = "empty, as in all lines; give what was answered"
    sift(source, take, "error", {"prompt": reason}, whole=True)
    return found


def read_comparisons(source: object, on_bad_lines: OnBadLines = "error") -> Sifted[Comparison]:
    """Read pairs of answers and the preferred one; each row may have any layout.

    The chosen answer is put first in every other row only. Otherwise its position would reveal it.
    Rows with an empty prompt are left out.

    Args:
        source: see `read_prompts`.
        on_bad_lines: see `sift`.

    Raises:
        InputError: see `sift`.
    """
    known = [each for each in all_layouts() if each.pairs]

    def take(row: Row, number: int) -> tuple[str, list[Comparison]]:
        row.check_text_only()
        layout, row = recognise(row, known)
        parsed = layout.read(row)
        pairs = parsed.pairs() if parsed.pairs is not None else ()
        prompt, made = _filled(parsed.prompt), []
        for i, pair in enumerate(pairs, number):
            if pair.sided and i % 2 == 0:
                made.append(Comparison(prompt, pair.second, pair.first, 1 - pair.share, pair.votes))
            else:
                made.append(Comparison(prompt, pair.first, pair.second, pair.share, pair.votes))
        return layout.name + (", answers of several turns" if parsed.several else ""), made

    reason = "empty, as in all lines; give what the answers reply to"
    return sift(source, take, on_bad_lines, {"prompt": reason})


def _answered(row: Row) -> tuple[str, ParsedRow]:
    """Parse a row as one with an answer: its own answer, or else the preferred one."""
    row.check_text_only()
    fitting = [each for each in all_layouts() if each.rank(row) is not None]
    able = [each for each in fitting if each.answers]
    both = [each for each in all_layouts() if each.answers or each.pairs]
    layout, row = recognise(row, able or both)
    parsed = layout.read(row)
    compared = [each for each in fitting if each.pairs]
    if parsed.answer is None and parsed.pairs is None and compared:
        layout, row = recognise(row, compared)
        parsed = layout.read(row)
    return layout.name, parsed


def _answer_of(parsed: ParsedRow) -> str:
    if parsed.answer is not None:
        return parsed.answer()
    if parsed.several:
        raise Refused("answer", "several turns, of which none is the answer to learn")
    if parsed.pairs is not None:
        return preferred(parsed.pairs())
    raise Refused("completion", "missing: the last message is the user's", malformed=True)


def _is_prompt(layout: Layout) -> bool:
    return not (layout.pairs or layout.answers)


def _filled(prompt: Prompt) -> Prompt:
    if not text_of(prompt).strip():
        raise Refused("prompt", "empty", empty=True)
    return prompt
