"""Results to RESULTS.md: machine, aims, then the tables of tables.py and the plots of plots.py."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from benchmarks import plots, tables
from benchmarks.figures import (
    OURS,
    OURS_OFF,
    PHOTOS,
    Found,
    best_peer,
    middle,
    ratio_of,
    ratio_to_limit,
    shares_of_others,
)  # fmt: skip
from benchmarks.photos import SIZES
from benchmarks.tables import table

RESULTS_MD = Path(__file__).resolve().parent / "RESULTS.md"
BUSY = 0.1  # above this share of the cores in other hands, absolute figures say little


def write(results: Found) -> None:
    """Write RESULTS.md from what was measured so far."""
    drawn = plots.draw(results)
    lines = ["# What was measured", ""]
    lines += ["Written by `./benchmarks/run.sh`. NOTES.md says how it is measured, and why so.", ""]
    lines += heading(results) + reach(results)
    for name, part in tables.PARTS.items():
        if name in results:
            about = results[name]["about"]
            lines += ["", *part(results[name]["found"])]
            if f"{name}.png" in drawn:
                lines += ["", f"![{name}](plots/{name}.png)"]
            lines += ["", f"<sub>{about['when']}, commit {about['commit']}, rounds: {about['rounds']}</sub>"]
    RESULTS_MD.write_text("\n".join(lines) + "\n")


def heading(results: Found) -> list[str]:
    """Machine and versions, and how quiet it was."""
    about = next(iter(results.values()))["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    sizes = ", ".join(f"{name} {size.width}x{size.height}" for name, size in SIZES.items())
    flags = ", ".join(about["flags"])
    lines = [
        f"- Machine: {about['cpu']}, {about['cores']} cores ({flags}), {about['memory_gb']} GiB, "
        f"Linux {about['kernel']}",
        f"- Model: {about['architecture']}, input {about['input_size']}, weights {about['weights_sha256']}",
        f"- Versions: {versions}",
        f"- Photos: {sizes}, JPEG, made from a public-domain portrait (photos.py)",
    ]
    others = shares_of_others(results)
    if others:
        used = f"median {median(others):.0%}, at most {max(others):.0%}"
        lines.append(f"- Share of the cores that other processes used meanwhile, over all loads: {used}")
    if others and median(others) > BUSY:
        lines += [
            "",
            "> **The machine was shared while this was measured.** Photos a second, latencies, start-up times and "
            "what is computed from them are indicative only. CPU milliseconds a photo, memory and agreement hold.",
        ]
    return lines


def reach(results: Found) -> list[str]:
    """What the project wants, beside what came out."""
    rows: list[tuple[str, str, str]] = []
    if "race" in results:
        rows += reach_of_race(results["race"]["found"])
    if "cost" in results:
        found = results["cost"]["found"]
        for name, costs in (("served", found["servers"][OURS_OFF]), ("without a server", found["limit"])):
            ratio = middle(costs["phone"], "cpu") / middle(costs["typical"], "cpu")
            rows.append((f"CPU of a phone photo / a typical one, {name}", "<= 2.5", f"{ratio:.2f}"))
    if "outputs" in results:
        for photo, kinds in results["outputs"]["found"].items():
            for output, entry in kinds.items():
                if "rembg" in entry:
                    ratio = ratio_of(entry[OURS_OFF], entry["rembg"])
                    rows.append((f"ours / rembg's server, {photo}, {output}", ">= 3.0", f"{ratio:.2f}"))
    if "sweep" in results:
        found = results["sweep"]["found"]
        for photo in PHOTOS:
            wait = middle(found["servers"][OURS_OFF][photo]["1"], "p50")
            own = wait - middle(found["alone"][photo], "seconds")
            rows.append((f"latency at one client minus the limit's, {photo}, ms", "<= 4", f"{1000 * own:.1f}"))
    if "forward" in results:
        took = median(results["forward"]["found"]["auto"])
        rows.append(("one forward on one core, ms", "<= 15", f"{1000 * took:.1f}"))
    if "memory" in results:
        found = results["memory"]["found"]
        name = f"memory slope over {found['requests']} requests, kB a 1000"
        rows.append((name, "0", f"{found['slope']:.1f} ± {found['error']:.1f}"))
    return ["", "## Aims", "", *table(("", "aim", "measured"), rows)] if rows else []


def reach_of_race(found: Found) -> list[tuple[str, str, str]]:
    """The aims about throughput, cost and memory."""
    rows = []
    for photo, aim in (("typical", 0.90), ("phone", 0.95)):
        for name in (OURS_OFF, OURS):
            share = ratio_to_limit(found, name, photo)
            rows.append((f"throughput / limit, {photo}, {name}", f">= {aim:.2f}", f"{share:.2f}"))
    for stack, aim in (("ours", 1.0), ("torch", 3.0)):
        for photo in PHOTOS:
            peer = best_peer(found, photo, stack)
            if peer:
                ratio = ratio_of(found["servers"][OURS_OFF][photo], found["servers"][peer][photo])
                rows.append((f"ours / best peer ({peer}), {photo}", f">= {aim:.1f}", f"{ratio:.2f}"))
    rows.append(("resident memory of a worker, MB", "<= 450", f"{found['resident'][OURS_OFF]['worker']:.0f}"))
    return rows


if __name__ == "__main__":  # write RESULTS.md anew from what the last runs saved
    write(json.loads((RESULTS_MD.parent / ".data" / "results.json").read_text()))
