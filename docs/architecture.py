"""Draws docs/architecture.svg from the imports.

`python docs/architecture.py` writes it; with --check it fails where the file is stale.

Each box is a package; an arrow leads from the package that imports to the one that is imported. An arrow is left out
where a longer way leads to the same box. Rows are the
longest way down to a package that imports nothing of ours, so that arrows only point downwards.
"""

from __future__ import annotations

import sys
from functools import cache
from html import escape
from pathlib import Path

import grimp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # handler/ is not installed
SVG = Path(__file__).with_suffix(".svg")
WIDTH, BOX_WIDTH, BOX_HEIGHT, ROW = 1000, 170, 48, 112
ROOM = {
    "handler": "TorchServe adapter",
    "humanseg.segmentation": "photo to mask, pure",
    "humanseg.video": "clip to clip",
    "humanseg.common": "settings, files, names",
    "humanseg.archive.capture": "in the worker",
    "humanseg.archive.ship": "beside the server",
    "humanseg.archive.read": "for people",
    "humanseg.archive": "errors of the archive",
    "humanseg.client": "HTTP client",
    "humanseg.cli": "command line",
    "humanseg.labels": "of labelling tools",
    "humanseg.training": "data, loop, evaluation",
    "humanseg.loop": "archive and network",
    "humanseg.serve": "supervisor, .mar builder",
    "humanseg.deploy": "AWS, release, container",
}


def package_of(module: str) -> str | None:
    """The room that `module` belongs to; None for what is drawn nowhere."""
    return max((room for room in ROOM if module == room or module.startswith(f"{room}.")), key=len, default=None)


def arrows() -> dict[str, set[str]]:
    """For each room, the rooms that its modules import."""
    graph = grimp.build_graph("humanseg", "handler", cache_dir=None)
    imports: dict[str, set[str]] = {room: set() for room in ROOM}
    for module in graph.modules:
        source = package_of(module)
        for imported in graph.find_modules_directly_imported_by(module):
            target = package_of(imported)
            if source and target and source != target:
                imports[source].add(target)
    return imports


def levels(edges: dict[str, set[str]]) -> dict[str, int]:
    """For each room the longest way down, 0 for one that imports nothing of ours."""

    @cache
    def level(room: str) -> int:
        return 1 + max((level(below) for below in edges[room]), default=-1)

    return {room: level(room) for room in edges}


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The edges without those that a longer way replaces (transitive reduction)."""

    @cache
    def reached(room: str) -> frozenset[str]:
        return frozenset(edges[room]).union(*(reached(below) for below in edges[room]))

    return {
        room: {below for below in targets if not any(below in reached(other) for other in targets - {below})}
        for room, targets in edges.items()
    }


def draw() -> str:
    """The SVG."""
    edges = arrows()
    level = levels(edges)
    rows = [sorted(room for room in level if level[room] == height) for height in range(max(level.values()) + 1)]
    height = ROW * len(rows) + 20
    centre: dict[str, tuple[float, float]] = {}
    for index, row in enumerate(rows):
        for place, room in enumerate(row):
            x = WIDTH * (place + 0.5 + 0.12 * (index % 2)) / (len(row) + 0.12)
            centre[room] = (round(x, 1), height - ROW * index - ROW / 2 - 10)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#8a94a6"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    shown = reduced(edges)
    for room in sorted(shown):
        for below in sorted(shown[room]):
            (x, y), (to_x, to_y) = centre[room], centre[below]
            start, end = y + BOX_HEIGHT / 2, to_y - BOX_HEIGHT / 2
            bend = (end - start) / 2
            lines.append(
                f'<path d="M{x} {start}C{x} {start + bend} {to_x} {end - bend} {to_x} {end}" fill="none" '
                'stroke="#8a94a6" marker-end="url(#tip)"/>'
            )
    for room, (x, y) in sorted(centre.items()):
        colour = "#e7f0ff" if room.startswith("humanseg.segmentation") else "#f4f5f7"
        lines += [
            f'<rect x="{x - BOX_WIDTH / 2}" y="{y - BOX_HEIGHT / 2}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" '
            f'rx="6" fill="{colour}" stroke="#4a5568"/>',
            f'<text x="{x}" y="{y - 3}" text-anchor="middle" font-size="13" font-weight="bold" fill="#1a202c">'
            f"{escape(room.removeprefix('humanseg.'))}</text>",
            f'<text x="{x}" y="{y + 14}" text-anchor="middle" font-size="11" fill="#4a5568">'
            f"{escape(ROOM[room])}</text>",
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    drawn = draw()
    if "--check" in sys.argv:
        sys.exit(0 if SVG.is_file() and SVG.read_text() == drawn else f"{SVG} is stale: python docs/architecture.py")
    SVG.write_text(drawn)
