"""The drift report: one HTML file, a table row and a plot for each variable."""

from __future__ import annotations

from humanseg.archive.read.drift import Finding
from humanseg.common.html import Raw, bars_plot, heading, page, paragraph, table


def as_html(findings: list[Finding], reference: str, current: str) -> str:
    """The report on `findings`; `reference` and `current` name the two windows."""
    alarms = [one.name for one in findings if one.alarm]
    says = f"Changed: {', '.join(alarms)}." if alarms else "No large and significant change."
    parts = [
        paragraph(says, "bad" if alarms else "good"),
        paragraph(
            f"Before: {reference}. Now: {current}. Photos are weighted by 1 / sampling_probability. The effect is "
            "the share of photos that differ (Kolmogorov-Smirnov, total variation), q the p value after Benjamini "
            "and Hochberg. Photos are assumed to be independent.",
            "dim",
        ),
        table(
            ("", "before", "now", "effect", "p", "q", "photos before", "photos now", ""),
            [
                (
                    one.name,
                    one.before,
                    one.now,
                    f"{one.effect:.3f}",
                    f"{one.p:.4f}",
                    f"{one.q:.4f}",
                    one.photos[0],
                    one.photos[1],
                    Raw('<span class="bad">changed</span>') if one.alarm else one.note,
                )
                for one in findings
            ],
        ),
    ]
    for one in findings:
        if one.bars[0]:
            parts += [heading(one.name), bars_plot(*one.bars, legend=("before", "now"))]
    return page("Data drift report", *parts)
