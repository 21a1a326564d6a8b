"""Text delimited by comma, semicolon, tab or bar."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from nlhf.errors import InputError
from nlhf.preferences.reading.sheet import Sheet, make_sheet

DELIMITERS = {",": "CSV", ";": "CSV with ;", "\t": "tab-separated text", "|": "text with |"}
_LOOKED_AT = 20


def decode(data: bytes, source: str) -> str:
    """Decode bytes as UTF-8, or as UTF-16 if there is a byte-order mark.

    Raises:
        InputError: the bytes are not such text.
    """
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: cannot be read as CSV or other text: {error.reason} at byte "
            f"{error.start}; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise InputError(f"{source}: cannot be read as CSV or other text: it has NUL characters")
    return text


def read_delimited(text: str, source: str) -> Sheet:
    """Read a header and rows as a sheet, see `rows_of`.

    Raises:
        InputError: see `rows_of`; or there is only one column.
    """
    form, header, rows, lines, delimiter = rows_of(text, source)
    columns = [[text.strip() for text in column] for column in zip(*rows, strict=True)]
    return make_sheet(source, form, header, columns, lines, delimiter != ",")


def rows_of(
    text: str, source: str, narrow: bool = False
) -> tuple[str, list[str], list[list[str]], list[int], str]:
    """Read a header and rows; the delimiter is the one that splits the first lines consistently.

    Args:
        text: the file.
        source: its name, for messages.
        narrow: whether a single column is allowed.

    Returns:
        The format, the header, the rows, the line numbers where rows end, and the delimiter.

    Raises:
        InputError: a line has more or fewer values than the header, or quotes are not closed.
    """
    delimiter = _delimiter(text, source, narrow)
    known = csv.field_size_limit(max(len(text), 2**17))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row and (row[0] or any(row)):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{source}:{reader.line_num}: cannot be read as CSV: {error}") from None
    finally:
        csv.field_size_limit(known)
    form, width = DELIMITERS[delimiter], len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise InputError(
                f"{source}:{line}: {len(row)} values under a header of {width}; "
                f"it was taken for {form}"
            )
    return form, rows[0], rows[1:], lines[1:], delimiter


def _delimiter(text: str, source: str, narrow: bool) -> str:
    lines = [line for line in text.splitlines() if line.strip()][:_LOOKED_AT]
    if not lines:
        raise InputError(f"{source}: empty; give battles, tallies of wins, or a square table")
    if narrow:  # texts contain any delimiter, so only the header is reliable
        header = lines[0]
        most = max(DELIMITERS, key=lambda each: len(next(csv.reader([header], delimiter=each))))
        return most if most in header else ","
    best, most = "", 1
    for delimiter in DELIMITERS:
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        first = len(next(csv.reader(lines[:1], delimiter=delimiter)))
        # splitting all lines equally counts more than splitting the header often
        score = first * (100 if len(widths) == 1 else 1)
        if first > 1 and score > most:
            best, most = delimiter, score
    if not best:
        raise InputError(
            f"{source}: one column only ({lines[0].strip()[:40]}); nothing is separated by comma, "
            "semicolon or tab"
        )
    return best


def read_text(path: Path) -> str:
    """Read a text file, see `decode`.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
