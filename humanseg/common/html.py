"""A report in one HTML file: text, tables and plots (inline SVG), no external resources, no executable script."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

BLUE, GREY, RED, GREEN = "#3884ff", "#8a909c", "#d6452f", "#1f9d55"
_CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1d2129}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.25rem .7rem;border-bottom:1px solid #e3e6eb;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#d6452f}.good{color:#1f9d55}.dim{color:#8a909c}
figure{display:inline-block;margin:.4rem;font-size:12px}figure img{display:block}svg{max-width:100%}
svg text{font:12px system-ui,sans-serif;fill:#1d2129}h2{margin-top:2rem}
"""


@dataclass(frozen=True)
class Raw:
    """Markup that is inserted unescaped."""

    text: str


def page(title: str, *parts: Raw, data: Any = None, name: str = "data") -> str:
    """A complete page. It embeds `data` as JSON for programs; `embedded` extracts it."""
    block = ""
    if data is not None:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
        block = f'<script type="application/json" id="{name}">{text}</script>\n'
    body = "\n".join(part.text for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_CSS}</style></head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n{block}</body></html>\n"
    )


def embedded(text: str, name: str = "data") -> Any:
    """Extract the data that `page` embedded in a report. Raises ValueError if there is none."""
    start = f'<script type="application/json" id="{name}">'
    _, start_tag, rest = text.partition(start)
    if not start_tag:
        raise ValueError(f"not a report: it has no {name!r} data")
    return json.loads(rest.partition("</script>")[0])


def heading(text: str) -> Raw:
    """A heading of the second level."""
    return Raw(f"<h2>{html.escape(text)}</h2>")


def paragraph(text: str, kind: str = "") -> Raw:
    """One paragraph; kind: "good", "bad" or "dim"."""
    return Raw(f'<p class="{kind}">{html.escape(text)}</p>')


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Raw:
    """Rows under `columns`; numbers are right-aligned. A cell may be `Raw`."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = []
    for row in rows:
        cells = []
        for cell in row:
            text = cell.text if isinstance(cell, Raw) else html.escape("" if cell is None else str(cell))
            number = text[:2].lstrip("+-")[:1].isdigit()
            cells.append(f'<td class="n">{text}</td>' if number else f"<td>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return Raw(f"<table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table>")


def picture(jpeg_base64: str, caption: str) -> Raw:
    """A JPEG inside the page."""
    text = html.escape(caption)
    return Raw(
        f'<figure><img src="data:image/jpeg;base64,{jpeg_base64}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def intervals_plot(rows: Sequence[tuple[str, float, float, float, str]], margin: float | None = None) -> Raw:
    """A line per row: (name, value, low, high, colour), with marks at 0 and, if given, at -`margin`."""
    if not rows:
        return Raw("")
    marks = [0.0, *([] if margin is None else [-margin])]
    low = min([*marks, *(row[2] for row in rows)])
    high = max([*marks, *(row[3] for row in rows)])
    width, left, step = 760, 230, 22
    span = (high - low) or 1.0
    bottom = step * len(rows) + 10

    def x(value: float) -> float:
        return left + (value - low) / span * (width - left - 70)

    out = [f'<svg viewBox="0 0 {width} {bottom + 20}" width="{width}" role="img">']
    for mark, colour in zip(marks, (GREY, RED), strict=False):
        out.append(
            f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="0" y2="{bottom}" stroke="{colour}" '
            f'stroke-dasharray="4 3"/>'
            f'<text x="{x(mark):.1f}" y="{bottom + 14}" text-anchor="middle">{mark:g}</text>'
        )
    for index, (name, value, least, most, colour) in enumerate(rows):
        y = step * index + 14
        out.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{html.escape(name)}</text>'
            f'<line x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x(value):.1f}" cy="{y}" r="4" fill="{colour}"/>'
            f'<text x="{width - 62}" y="{y + 4}">{value:+.4f}</text>'
        )
    return Raw("".join([*out, "</svg>"]))


def bars_plot(names: Sequence[str], first: Sequence[float], second: Sequence[float], legend: tuple[str, str]) -> Raw:
    """Two shares (0..1) side by side for each name: a histogram of two groups."""
    width, height, bottom = 520, 150, 20
    most = max([*first, *second, 1e-9])
    slot = width / max(1, len(names))
    out = [f'<svg viewBox="0 0 {width} {height + bottom + 18}" width="{width}" role="img">']
    every = -(-len(names) // 10)
    for index, (name, before, after) in enumerate(zip(names, first, second, strict=True)):
        for place, value, colour in ((0.1, before, GREY), (0.5, after, BLUE)):
            tall = value / most * (height - 10)
            out.append(
                f'<rect x="{(index + place) * slot:.1f}" y="{height - tall:.1f}" width="{0.38 * slot:.1f}" '
                f'height="{tall:.1f}" fill="{colour}"/>'
            )
        if index % every == 0:
            out.append(
                f'<text x="{(index + 0.5) * slot:.1f}" y="{height + 15}" text-anchor="middle">'
                f"{html.escape(name)}</text>"
            )
    for index, (text, colour) in enumerate(zip(legend, (GREY, BLUE), strict=True)):
        out.append(
            f'<rect x="{index * 160}" y="{height + 24}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{index * 160 + 15}" y="{height + 34}">{html.escape(text)}</text>'
        )
    return Raw("".join([*out, "</svg>"]))


def lines_plot(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]], str]], labels: tuple[str, str], diagonal: bool = False
) -> Raw:
    """Lines through points in 0..1 each way: (name, points, colour)."""
    size, left = 260, 40

    def at(point: tuple[float, float]) -> str:
        return f"{left + point[0] * size:.1f},{10 + (1 - point[1]) * size:.1f}"

    out = [f'<svg viewBox="0 0 {size + left + 150} {size + 45}" width="{size + left + 150}" role="img">']
    out.append(f'<rect x="{left}" y="10" width="{size}" height="{size}" fill="none" stroke="{GREY}"/>')
    if diagonal:
        out.append(
            f'<polyline points="{at((0, 0))} {at((1, 1))}" stroke="{GREY}" stroke-dasharray="4 3" fill="none"/>'
        )
    for index, (name, points, colour) in enumerate(lines):
        path = " ".join(at(point) for point in points)
        out.append(f'<polyline points="{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        out.append(
            f'<text x="{left + size + 10}" y="{30 + 18 * index}" style="fill:{colour}">{html.escape(name)}</text>'
        )
    out.append(f'<text x="{left + size / 2}" y="{size + 32}" text-anchor="middle">{html.escape(labels[0])}</text>')
    out.append(
        f'<text x="14" y="{10 + size / 2}" text-anchor="middle" transform="rotate(-90 14 {10 + size / 2})">'
        f"{html.escape(labels[1])}</text>"
    )
    return Raw("".join([*out, "</svg>"]))
