"""The drift report: one HTML file, a table row and a plot for each variable."""

from __future__ import annotations

from humanseg.archive.read.drift import Finding
from humanseg.common.html import Raw, bars_plot, heading, page, paragraph, table


def as_html(findings: list[Finding], reference: str, current: str) -> str:
    """The report on `findings`; `reference` and `current` name the two windows."""
    alarms = [finding.name for finding in findings if finding.alarm]
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
                    finding.name,
                    finding.before,
                    finding.now,
                    f"{finding.effect:.3f}",
                    f"{finding.p:.4f}",
                    f"{finding.q:.4f}",
                    finding.photos[0],
                    finding.photos[1],
                    Raw('<span class="bad">changed</span>') if finding.alarm else finding.note,
                )
                for finding in findings
            ],
        ),
    ]
    for finding in findings:
        if finding.bars[0]:
            parts += [heading(finding.name), bars_plot(*finding.bars, legend=("before", "now"))]
    return page("Data drift report", *parts)
