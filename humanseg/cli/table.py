"""Tables that fit the terminal without truncating values that people copy.

A single word (an id, a date, a number, a path) is never truncated or wrapped. If the terminal is too narrow, empty
columns are left out and columns of prose wrap. If that is not enough, a table with `essential` columns hides columns
from the right and names them; otherwise each row becomes a block of `column  value` lines. Without a terminal nothing
is hidden or wrapped, because other programs read it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

GAP = 2  # spaces between columns
LEAST_PROSE = 16  # columns of prose are not folded narrower than this
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?UTC|Z)?")
NUMBER = re.compile(r"[-+]?[\d.,]+ ?(%|s|ms|[kKMGT]i?B|B|\$)?")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    stream: TextIO | None = None,
    *,
    essential: int | None = None,
) -> None:
    """Print rows under `columns` on `stream` (standard output); no cell is interpreted as markup.

    essential: number of leading columns that are always shown; None: all.
    """
    stream = stream or sys.stdout
    text = table(title, columns, rows, terminal_width(stream), bold=stream.isatty(), essential=essential)
    print(text, file=stream)


def terminal_width(stream: TextIO) -> int | None:
    """The columns of the terminal, or of COLUMNS; None if the output is not a terminal."""
    if not stream.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return None
    return shutil.get_terminal_size().columns


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    width: int | None,
    *,
    bold: bool = False,
    essential: int | None = None,
) -> str:
    """The table as text of at most `width` columns (None: as wide as it is), unless a single word is longer."""
    cells: Sequence[Sequence[str]] = [["" if cell is None else str(cell) for cell in row] for row in rows]
    head = [f"\033[1m{title}\033[0m" if bold else title] if title else []
    widths = _fitted(columns, cells, width)
    hidden: list[str] = []
    if widths is None:
        used = [at for at in range(len(columns)) if not cells or any(row[at] for row in cells)]
        columns, cells = [columns[at] for at in used], [[row[at] for at in used] for row in cells]
        shown = next(
            (count for count in range(len(columns), 0, -1) if _fitted(columns[:count], _first(cells, count), width)),
            0,
        )
        if shown < (len(columns) if essential is None else essential):
            return "\n".join([*head, *_blocks(columns, cells, width or 80)])
        columns, hidden, cells = columns[:shown], list(columns[shown:]), _first(cells, shown)
        widths = _fitted(columns, cells, width) or []
    right = [all(NUMBER.fullmatch(row[at]) for row in cells if row[at]) for at in range(len(columns))]
    names = _row(columns, widths, right)
    lines = [f"\033[1m{line}\033[0m" for line in names] if bold else names
    body = (line for row in cells for line in _row(row, widths, right))
    note = textwrap.wrap(f"Hidden: {', '.join(hidden)}. Use a wider terminal, or --json.", width or 80)
    return "\n".join([*head, *lines, *body, *(note if hidden else [])])


def _first(cells: Sequence[Sequence[str]], count: int) -> list[Sequence[str]]:
    return [row[:count] for row in cells]


def _fitted(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int | None) -> list[int] | None:
    """The columns' widths, with prose and names wrapped to fit `width`; None if that is impossible."""
    widths = [max(len(line) for line in (name, *(row[at] for row in cells))) for at, name in enumerate(columns)]
    if width is None:
        return widths
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    for at in sorted(range(len(columns)), key=lambda index: -widths[index]):
        prose = any(is_prose(row[at]) for row in cells)
        words = [*columns[at].split(), *(word for row in cells for word in (row[at].split() if prose else [row[at]]))]
        narrowest = max(LEAST_PROSE if prose else 0, *map(len, words))
        shrunk = min(widths[at], max(narrowest, widths[at] - max(0, excess)))
        excess -= widths[at] - shrunk
        widths[at] = shrunk
    return widths if excess <= 0 else None


def is_prose(cell: str) -> bool:
    """Whether a cell may be wrapped at its spaces."""
    return " " in cell and not MOMENT.fullmatch(cell) and not NUMBER.fullmatch(cell)


def _row(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """One row as the lines of its wrapped cells."""
    folded = [
        textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) if len(cell) > width else [cell]
        for cell, width in zip(row, widths, strict=True)
    ]
    lines = []
    for depth in range(max(map(len, folded), default=0)):
        cells = [cell[depth] if depth < len(cell) else "" for cell in folded]
        parts = zip(cells, widths, right, strict=True)
        padded = [cell.rjust(width) if aligned else cell.ljust(width) for cell, width, aligned in parts]
        lines.append((" " * GAP).join(padded).rstrip())
    return lines


def _blocks(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[str]:
    margin = max(map(len, columns)) + GAP
    lines = []
    for index, row in enumerate(cells):
        lines += [""] if index else []
        for name, cell in zip(columns, row, strict=True):
            if not cell:
                continue
            room = max(LEAST_PROSE, width - margin)
            folded = [cell]
            if is_prose(cell):
                folded = textwrap.wrap(cell, room, break_long_words=False, break_on_hyphens=False)
            lines += [f"{name:{margin}}{folded[0]}".rstrip(), *(" " * margin + more for more in folded[1:])]
    return lines
