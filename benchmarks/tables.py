"""One table for each part of run.py, as lines of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.figures import OURS_OFF, PHOTOS, SLOWEST, Found, middle, ratio_to_limit

ENGINES = {
    "auto": "OpenVINO, bfloat16 where the CPU has it",
    "float32": "OpenVINO, float32",
    "torch": "PyTorch eager, float32",
}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table; the first column is text, the others are numbers."""
    aligned = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(str(cell) for cell in row)} |" for row in (head, aligned, *rows)]


def waits(seen: Sequence[Found]) -> list[str]:
    """p50, p95 and p99 in milliseconds."""
    return [f"{1000 * middle(seen, part):.0f}" for part in ("p50", "p95", "p99")]


def race(results: Found) -> list[str]:
    """Limit, ours and peers."""
    lines = [
        "## The limit, ours, and the peers",
        "",
        "Closed loop, 8 clients (wrk); the answer is the mask as PNG. `torch`: PyTorch eager and PIL, as the peers' "
        "own examples do it. `ours` behind a peer's name: our engine, photo and mask code behind that server.",
    ]
    head = ("", "photos/s", "/ limit", "p50 ms", "p95 ms", "p99 ms")
    for photo in PHOTOS:
        limit = results["limit"][photo]
        stages = {name: median(row["stages"][name] for row in limit) for name in limit[0]["stages"]}
        shown = ", ".join(f"{name} {took:.1f}" for name, took in stages.items())
        rows = [["**limit** (no server)", f"{middle(limit, 'rate'):.1f}", "1.00", "", "", ""]]
        for name, photos in results["servers"].items():
            seen = photos[photo]
            label = f"**{name}**" if name.startswith("ours") else name
            bad = sum(row["bad"] for row in seen)
            share = f"{ratio_to_limit(results, name, photo):.2f}"
            label += f" ({bad} failed)" if bad else ""
            rows.append([label, f"{middle(seen, 'rate'):.1f}", share, *waits(seen)])
        lines += ["", f"### {photo} ({shown} ms)", "", *table(head, rows)]
    lines += ["", "### Start-up, memory, and whether the masks are the same", ""]
    head = ("", "start to first mask, s", "largest worker, MB", "all processes, MB", "IoU with our mask")
    rows = []
    for name in results["servers"]:
        size = results["resident"][name]
        start, same = f"{results['start'][name]:.1f}", f"{results['agreement'][name]:.3f}"
        rows.append([name, start, f"{size['worker']:.0f}", f"{size['total']:.0f}", same])
    return lines + table(head, rows)


def cost(results: Found) -> list[str]:
    """CPU time a photo."""
    rows = []
    for name in ("limit", *results["servers"]):
        row = [f"**{name}**" if name == "limit" or name.startswith("ours") else name]
        for photo in PHOTOS:
            least = middle(results["limit"][photo], "cpu")
            used = least if name == "limit" else middle(results["servers"][name][photo], "cpu")
            row += [f"{1000 * used:.1f}", f"{least / used:.2f}"]
        rows.append(row)
    head = [""] + [cell for photo in PHOTOS for cell in (f"{photo}, CPU ms", "limit / it")]
    return [
        "## CPU time per photo",
        "",
        "The server and its child processes, archive and store included, over an exact number of photos (h2load, 8 "
        "clients, after a warm-up). This is valid on a busy machine, too, except for effects on the caches.",
        "",
        *table(head, rows),
    ]


def sweep(results: Found) -> list[str]:
    """Ours by number of clients."""
    lines = ["## Throughput by number of clients (closed loop)"]
    for name, photos in results["servers"].items():
        for photo, levels in photos.items():
            rows = []
            for clients, seen in levels.items():
                rows.append([clients, f"{middle(seen, 'rate'):.1f}", *waits(seen)])
            alone = 1000 * middle(results["alone"][photo], "seconds")
            lines += ["", f"### {name}, {photo} (in one process without a server: {alone:.1f} ms)", ""]
            lines += table(("clients", "photos/s", "p50 ms", "p95 ms", "p99 ms"), rows)
    return lines


def open_loop(results: Found) -> list[str]:
    """Ours under a fixed rate."""
    rows = []
    for name, photos in results.items():
        for photo, entries in photos.items():
            for entry in entries:
                late = f"{1000 * entry['late']:.0f}"
                sent = [f"{entry['rate']:.1f}", f"{entry['share']:.0%}"]
                rows.append([f"{name}, {photo}", *sent, *waits([entry]), late, entry["bad"]])
    return [
        "## Latency at a fixed rate (open loop)",
        "",
        "h2load, a new connection for each photo, evenly spaced. Nothing waits for an answer, so there is no "
        "coordinated omission. `late`: how far the load tool itself was behind its plan (99th percentile).",
        "",
        *table(("", "sent/s", "of capacity", "p50 ms", "p95 ms", "p99 ms", "late ms", "failed"), rows),
    ]


def outputs(results: Found) -> list[str]:
    """Mask, cutout and JSON."""
    rows = []
    for photo, kinds in results.items():
        for output, entry in kinds.items():
            limit, own = middle(entry["limit"], "rate"), middle(entry[OURS_OFF], "rate")
            cells = [f"{photo}, {output}", f"{limit:.1f}", f"{own:.1f}", f"{own / limit:.2f}", "-", "-"]
            if "rembg" in entry:
                peer = middle(entry["rembg"], "rate")
                cells[-2:] = [f"{peer:.1f}", f"{own / max(peer, SLOWEST):.1f}"]
            rows.append(cells)
    head = ("", "limit, photos/s", "ours", "ours / limit", "rembg's server", "ours / rembg")
    return ["## By output", "", "Archive off, 8 clients.", "", *table(head, rows)]


def forward(results: Found) -> list[str]:
    """The network alone."""
    fast = median(results["auto"])
    rows = [
        [ENGINES[name], f"{1000 * median(took):.1f}", f"{median(took) / fast:.2f}"] for name, took in results.items()
    ]
    return ["## One forward pass on one core", "", *table(("", "ms", "/ served"), rows)]


def memory(results: Found) -> list[str]:
    """Growth over many requests."""
    first, last = results["samples"][0][1], results["samples"][-1][1]
    return [
        f"## Memory over {results['requests']} requests",
        "",
        f"The largest worker, after photos of seven shapes and a phone's: {first:.0f} MB at the start, "
        f"{last:.0f} MB at the end; {results['slope']:.1f} ± {results['error']:.1f} kB a thousand requests "
        "(least squares over the last four fifths, standard error).",
    ]


def gpu(results: Found) -> list[str]:
    """The GPU's name and photos a second."""
    rows = [[f"forward, batch of {size}", f"{rate:.0f}"] for size, rate in results["forward"].items()]
    rows += [["decode, forward, encode, batches of 16", f"{results['whole']:.0f}"]]
    rows += [["one CPU core, forward", f"{results['one_core_forward']:.0f}"]]
    return [f"## GPU: {results['gpu']}", "", *table(("", "photos/s"), rows)]


def rim(results: Found) -> list[str]:
    """Colours at soft edges."""
    lines = [
        "## Colours at soft edges (rim.py)",
        "",
        f"{results['photos']} people of known colours and alpha, on photos with nobody; mean absolute error, in "
        "levels of 0..255, at the pixels that alpha mixes: of the estimated colours, and of the person on white with "
        "them. "
        "`pymatting ml` is what rembg's alpha matting estimates colours with; here both get the true alpha.",
    ]
    for scale, methods in results["sizes"].items():
        rows = [
            [name, f"{row['colour']:.1f}", f"{row['composite']:.1f}", f"{1000 * row['seconds']:.0f}"]
            for name, row in methods.items()
        ]
        head = (
            f"photos at {scale}x, about {round(0.45 * int(scale) ** 2, 1)} megapixels",
            "colour",
            "on white",
            "ms",
        )
        lines += ["", *table(head, rows)]
    return lines


PARTS: dict[str, Callable[[Found], list[str]]] = {
    "race": race,
    "cost": cost,
    "sweep": sweep,
    "open": open_loop,
    "outputs": outputs,
    "forward": forward,
    "memory": memory,
    "gpu": gpu,
    "rim": rim,
}
