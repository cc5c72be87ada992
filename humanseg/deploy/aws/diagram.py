"""Draws the diagram of README.md: `python -m humanseg.deploy.aws.diagram > deploy/aws/diagram.svg`."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 430
INK, PAPER, LINE, SOFT = "#1f2937", "#ffffff", "#64748b", "#f1f5f9"
BLUE, GREEN, ORANGE = "#dbeafe", "#dcfce7", "#ffedd5"


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and smaller lines under it; x, y, width, height in pixels."""

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    fill: str = SOFT
    dashed: bool = False


@dataclass(frozen=True)
class Arrow:
    """From a point to a point, with a word at its middle, shifted by `lift` pixels."""

    start: tuple[int, int]
    end: tuple[int, int]
    word: str
    lift: int = -8
    dashed: bool = False


BOXES = (
    Box(20, 150, 110, 70, "People", ("a photo in,", "a mask out")),
    Box(180, 20, 470, 340, "VPC (the account's default one)", fill=PAPER),
    Box(200, 150, 130, 70, "Load balancer", ("TLS, /predictions/*",), BLUE),
    Box(380, 60, 250, 270, "Auto Scaling group", ("one to many, by CPU and queue",), PAPER, dashed=True),
    Box(400, 115, 210, 195, "EC2 instance", ("no SSH, IMDSv2, encrypted disk",), SOFT),
    Box(415, 170, 180, 60, "Container", ("TorchServe :8080", "health by prediction :8088"), GREEN),
    Box(415, 240, 180, 55, "Spool on disk", ("drained on termination",), GREEN),
    Box(690, 40, 150, 60, "ECR", ("the image, by digest",), ORANGE),
    Box(690, 120, 150, 60, "S3: releases", ("the .mar",), ORANGE),
    Box(690, 225, 150, 75, "S3: archive", ("segments and tables", "outlives it all"), ORANGE),
    Box(690, 320, 150, 60, "CloudWatch", ("logs, metrics, alarms",), ORANGE),
    Box(20, 300, 110, 60, "Operator", ("Session Manager",)),
)
ARROWS = (
    Arrow((130, 185), (200, 185), "HTTPS"),
    Arrow((330, 185), (415, 195), "8080"),
    Arrow((690, 70), (595, 180), "pull", dashed=True),
    Arrow((690, 150), (595, 195), "read", dashed=True),
    Arrow((595, 267), (690, 262), "put", lift=-6),
    Arrow((595, 220), (690, 345), "write", lift=18, dashed=True),
    Arrow((130, 330), (400, 300), "tunnel, for one instance", dashed=True),
)
CAPTION = "Size one: the instance alone, reached through the tunnel. Size fleet: all of it. The role allows no more."


def draw() -> str:
    """The whole picture as SVG; the same bytes each time."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" role="img">',
        "<title>humanseg on AWS</title>",
        f"<desc>{escape(CAPTION)}</desc>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        *(box(item) for item in BOXES),
        *(arrow(item) for item in ARROWS),
        text(WIDTH // 2, HEIGHT - 16, CAPTION, 12.5),
        "</svg>",
    ]
    return "\n".join(parts)


def box(each: Box) -> str:
    """A box with its words at the top."""
    dash = ' stroke-dasharray="6 4"' if each.dashed else ""
    middle = each.x + each.width // 2
    parts = [
        f'<rect x="{each.x}" y="{each.y}" width="{each.width}" height="{each.height}" rx="8" '
        f'fill="{each.fill}" stroke="{LINE}"{dash}/>',
        text(middle, each.y + 20, each.title, 14, bold=True),
        *(text(middle, each.y + 38 + 15 * row, line, 11.5) for row, line in enumerate(each.lines)),
    ]
    return "\n".join(parts)


def arrow(each: Arrow) -> str:
    """A line with a tip, and its word."""
    (x1, y1), (x2, y2) = each.start, each.end
    dash = ' stroke-dasharray="4 4"' if each.dashed else ""
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    line = f'<line {ends} stroke="{LINE}" stroke-width="1.6"{dash} marker-end="url(#tip)"/>'
    return line + "\n" + text((x1 + x2) // 2, (y1 + y2) // 2 + each.lift, each.word, 11.5)


def text(x: int, y: int, words: str, size: float, *, bold: bool = False) -> str:
    """Words around a point, with a white edge so that lines do not strike them through."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size:g}" text-anchor="middle" fill="{INK}" stroke="{PAPER}" '
        f'stroke-width="3" paint-order="stroke"{weight}>{escape(words)}</text>'
    )


if __name__ == "__main__":
    print(draw())
