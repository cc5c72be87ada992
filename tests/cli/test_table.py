"""Tables: what a person copies out of them is never cut, however narrow the terminal is."""

from __future__ import annotations

import pytest

from humanseg.cli.table import table

COLUMNS = ("request id", "time", "photo", "coverage", "confidence", "label")
ROWS = [
    (
        "4f1c8e0a-3d52-4c11-9a52-1d2f3a4b5c6d",
        "2026-11-22 15:04:05",
        "1600x1200",
        "31.2 %",
        0.9512,
        "booth 3, left door",
    ),
    ("00000000-0000-4000-8000-000000000001", "2026-11-22 15:04:06", "640x480", "0.0 %", 0.1, None),
]
DAYS = ("day", "records", "megabytes", "person found", "coverage", "confidence", "declined", "sampled out", "dropped")
COUNTS = [("2026-11-21", 1204, 2311.5, 1190, 0.31, 0.91, 12, 0, 0), ("2026-11-22", 12, 2.5, 9, 0.3, 0.9, 0, 0, 0)]
WIDTHS = (60, 80, 120, 200, None)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("columns", "rows"), [(COLUMNS, ROWS), (DAYS, COUNTS)])
def test_every_word_is_there_in_one_piece(
    columns: tuple[str, ...], rows: list[tuple[object, ...]], width: int | None
) -> None:
    printed = table("records", columns, rows, width)
    for row in rows:
        for cell in row:
            if cell is not None:
                for word in str(cell).split():
                    assert word in printed
    assert "…" not in printed
    for name in columns:
        assert name in printed or all(word in printed for word in name.split())


@pytest.mark.parametrize("width", WIDTHS[:-1])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for columns, rows in ((COLUMNS, ROWS), (DAYS, COUNTS)):
        assert max(map(len, table("records", columns, rows, width).splitlines())) <= width


def test_without_a_terminal_a_row_is_a_line() -> None:
    assert len(table("", COLUMNS, ROWS, None).splitlines()) == 1 + len(ROWS)


def test_prose_folds_before_the_table_becomes_blocks() -> None:
    rows = [("a.jpg", "the photo is damaged or cut off and can not be decoded; send the whole file again")]
    lines = table("", ("photo", "cause"), rows, 50).splitlines()
    assert lines[0].split() == ["photo", "cause"]
    assert max(map(len, lines)) <= 50
    assert " ".join(" ".join(line[5:].split()) for line in lines[1:]) == rows[0][1]


def test_a_narrow_terminal_gets_a_block_for_each_row() -> None:
    lines = table("", COLUMNS, ROWS, 60).splitlines()
    assert lines[0] == "request id  4f1c8e0a-3d52-4c11-9a52-1d2f3a4b5c6d"
    assert "confidence  0.9512" in lines
    assert "" in lines


def test_columns_that_are_not_essential_are_hidden_by_name() -> None:
    lines = table("", COLUMNS, ROWS, 80, essential=2).splitlines()
    assert lines[0].split() == ["request", "id", "time", "photo", "coverage"]
    assert len(lines) == 1 + len(ROWS) + 1
    assert lines[-1] == "Hidden: confidence, label. Use a wider terminal, or --json."
    assert "Hidden" not in table("", COLUMNS, ROWS, 200, essential=2)
    assert "Hidden" not in table("", COLUMNS, ROWS, None, essential=2)
    assert table("", COLUMNS, ROWS, 50, essential=2) == table("", COLUMNS, ROWS, 50)  # the essential ones do not fit


def test_an_empty_column_is_left_out_of_a_narrow_table() -> None:
    rows = [("2026-11-21", "", 12), ("2026-11-22", None, 7)]
    assert table("", ("day", "label", "records"), rows, 20).splitlines()[0].split() == ["day", "records"]
    assert "label" in table("", ("day", "label", "records"), rows, 80)


def test_numbers_stand_to_the_right() -> None:
    lines = table("", ("day", "records"), [("2026-11-21", 1204), ("2026-11-22", 12)], 80).splitlines()
    assert [line[-4:] for line in lines[1:]] == ["1204", "  12"]
