"""`humanseg train`, `evaluate`, `export` and `pseudo-label`: train and measure models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from humanseg.cli.console import CommandError, err, print_json, print_table

if TYPE_CHECKING:
    from humanseg.training.samples import Source

app = typer.Typer()

SHIPPED = Path("model_store/human_segmentation.safetensors")

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="DIR[=WEIGHT]",
        help="Photos with masks (img/ and mask/) or a COCO JSON, with a sampling weight. Repeatable.",
    ),
]
Soft = Annotated[
    list[str] | None, typer.Option("--soft", metavar="DIR[=WEIGHT]", help="Like --data, with soft (grey) masks.")
]
Empty = Annotated[
    list[str] | None,
    typer.Option("--empty", metavar="DIR[=WEIGHT]", help="Photos (img/) without people."),
]

Distractors = Annotated[
    list[str] | None,
    typer.Option(
        "--distractors", metavar="DIR[=WEIGHT]", help="Cut-outs (img/, mask/) of distractors, e.g. animals."
    ),
]


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; created if missing.")],
    data: Data = None,
    soft: Soft = None,
    empty: Empty = None,
    distractors: Distractors = None,
    recipe: Annotated[Path | None, typer.Option(help="YAML file with all settings; options override it.")] = None,
    init: Annotated[str | None, typer.Option(help="Initial weights: imagenet, random, or a file.")] = None,
    resume: Annotated[bool, typer.Option(help="Resume exactly from the run's last checkpoint.")] = False,
    size: Annotated[int | None, typer.Option(help="Input size: the long side, a multiple of 32.")] = None,
    samples: Annotated[int | None, typer.Option(help="Number of samples in the whole run.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    hold_out: Annotated[float | None, typer.Option(help="Share of photos held out for validation.")] = None,
    archive: Annotated[
        str | None,
        typer.Option(metavar="SINCE", help="Also train on labelled photos of the archive since then, e.g. 90d."),
    ] = None,
) -> None:
    """Train on your photos, on the CPU or on all GPUs; use torchrun for several machines."""
    _need_training()
    from dataclasses import replace

    from humanseg.training.loop import train as run
    from humanseg.training.settings import Settings, read_recipe

    settings = Settings() if recipe is None else read_recipe(recipe)
    sources = _sources(data, soft, empty, distractors)
    if archive is not None:
        sources = (*sources, _from_archive(archive, out / "archive"))
    changes: dict[str, Any] = {
        "data": sources or None,
        "init": init,
        "size": size,
        "samples": samples,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "hold_out": hold_out,
    }
    settings = replace(settings, **{key: value for key, value in changes.items() if value is not None})
    if not settings.data:
        raise CommandError("no photos given: use --data DIR, or a --recipe with data")
    weights = run(settings, out, resume=resume)
    err().print(f"Weights: {weights}   log: {out / 'log.csv'}   sheets: {out / 'sheets'}")
    if archive is not None:
        measured = f"--data {out / 'archive'} --held-out {settings.hold_out:g}"
        err().print(f"Next: humanseg compare OLD {weights} {measured}", markup=False, soft_wrap=True)


@app.command()
def evaluate(
    data: Data = None,
    empty: Empty = None,
    held_out_empty: Annotated[
        list[str] | None, typer.Option(help="Like --empty, but only the held-out part.")
    ] = None,
    share: Annotated[float, typer.Option(help="Held-out share for --held-out-empty.")] = 0.33,
    weights: Annotated[Path, typer.Option(help="Weights to measure.")] = SHIPPED,
    threshold: Annotated[
        float | None, typer.Option(help="Decision threshold. Default: stored in the weights.")
    ] = None,
    quality: Annotated[
        Literal["fast", "best"], typer.Option(help="As the server's option: best is test-time augmentation.")
    ] = "fast",
    changed: Annotated[
        bool,
        typer.Option("--changed", help="Also measure robustness to JPEG 30, half size, blur, noise, ..."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json, sample sheets and plot.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure weights through the serving pipeline, at each photo's own size."""
    _need_training()
    from humanseg.segmentation.models import load_model
    from humanseg.training.evaluate import as_plain, kinds
    from humanseg.training.evaluate import evaluate as measure
    from humanseg.training.reliability import bins
    from humanseg.training.samples import find_samples, split

    sets = [(_name(source), find_samples(source)) for source in _sources(data, None, empty)]
    for source in _sources(None, None, held_out_empty):
        sets.append((f"{_name(source)} held out", split(find_samples(source), share)[1]))
    if not sets:
        raise CommandError("no photos given: use --data DIR or --empty DIR")
    reports = measure(load_model(weights), sets, out, threshold=threshold, quality=quality, changed=changed)
    if as_json:
        print_json([as_plain(report) for report in reports])
        return
    rows = [
        (report.name, report.photos, key, f"{value:.3f}", f"{low:.3f} to {high:.3f}")
        for report in reports
        for key, (value, low, high) in report.figures.items()
    ]
    print_table(str(weights), ("set", "photos", "metric", "value", "95 % interval"), rows)
    by_kind = [
        (row.kind, row.photos, f"{row.mean_iou:.3f}", f"{row.low:.3f} to {row.high:.3f}") for row in kinds(reports)
    ]
    if by_kind:
        print_table("By slice", ("slice", "photos", "mean IoU", "95 % interval"), by_kind)
    calibration = [
        (report.name, f"{item.low:g} to {item.high:g}", item.photos, f"{item.confidence:.3f}", f"{item.iou:.3f}")
        for report in reports
        for item in bins(report.pairs)
        if not report.nobody
    ]
    if calibration:
        print_table(
            "Calibration of the confidence", ("set", "confidence", "photos", "its mean", "mean IoU"), calibration
        )
    differ = [
        (report.name, name, f"{own:.3f}", f"{drawn:.3f}")
        for report in reports
        for name, (own, drawn) in report.changes.items()
    ]
    if differ:
        columns = ("set", "change", "IoU with the unchanged photo's mask", "mean IoU with the ground truth")
        print_table("Robustness", columns, differ)


@app.command()
def export(
    sources: Annotated[
        list[Path],
        typer.Argument(help="A run's folder, its last.ckpt, or any weights file. Several are averaged."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Output .safetensors file for build_mar.sh.")],
    threshold: Annotated[float | None, typer.Option(help="Decision threshold to store, 0..1.")] = None,
    peak: Annotated[
        float | None, typer.Option(help="Least peak probability of a person's region to store; 0 keeps all.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Input size to store.")] = None,
) -> None:
    """Convert a checkpoint, or the mean of several, to a weights file for build_mar.sh."""
    _need_training()
    from humanseg.training.export import export as write

    written = write(sources, out, threshold=threshold, peak=peak, size=size)
    err().print(f"{out}: {written.architecture}, long side {written.spec.long_side}, sha256 {written.sha256}")


@app.command("pseudo-label")
def pseudo_label(
    photos: Annotated[Path, typer.Argument(help="A folder of photos (img/).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the data set.")],
    teacher: Annotated[Path, typer.Option(help="MediaPipe's selfie_segmentation.tflite.")],
    own: Annotated[
        Path | None, typer.Option(help="Also use these weights; drop photos on which both disagree.")
    ] = None,
    minimum: Annotated[float, typer.Option(help="Minimum agreement (IoU) to keep a photo.")] = 0.85,
) -> None:
    """Create soft masks for unlabelled photos with a teacher model."""
    _need_training()
    from humanseg.training.pseudo import pseudo_label as make
    from humanseg.training.samples import Source, find_samples
    from humanseg.training.teacher import Teacher, with_own

    label = Teacher(teacher).label if own is None else with_own(Teacher(teacher), own)
    photo_paths = [sample.photo for sample in find_samples(Source(photos, kind="empty"))]
    kept, dropped = make(photo_paths, out, label, minimum)
    err().print(f"{out}: {kept} photos kept, {dropped} dropped; see {out / 'report.csv'}")


def _sources(
    data: list[str] | None,
    soft: list[str] | None,
    empty: list[str] | None,
    distractors: list[str] | None = None,
) -> tuple[Source, ...]:
    from humanseg.training.samples import Source

    sources = []
    for kind, texts in (("masks", data), ("soft", soft), ("empty", empty), ("distractors", distractors)):
        for text in texts or ():
            path, _, weight = text.partition("=")
            try:
                share = float(weight or 1)
            except ValueError:
                share = 0.0
            if share <= 0:
                raise CommandError(f"--data {text}: the weight is {weight!r}; it must be a number above 0")
            sources.append(Source(Path(path), share, kind))  # type: ignore[arg-type]
    return tuple(sources)


def _from_archive(since: str, folder: Path) -> Source:
    """Export the archive's labelled photos into `folder`."""
    from datetime import datetime, timezone

    from humanseg.archive.read.export import export
    from humanseg.cli.archive_common import moment, plain_errors, reader
    from humanseg.training.samples import Source

    first = moment(since)
    if first is None:
        raise CommandError("--archive needs a time, e.g. 90d")
    with plain_errors():
        now = datetime.now(timezone.utc)
        result = export(reader(), folder, since=first, until=None, now=now, corrected_only=True)
    if not result.photos:
        raise CommandError(
            "the archive has no labelled photos in this time range; import some with: humanseg archive import-labels"
        )
    err().print(f"Exported {result.photos} labelled photos to {folder}")
    return Source(folder)


def _name(source: Source) -> str:
    """`ccp/val` of /somewhere/data/ccp/val."""
    parts = source.path.resolve().parts
    return "/".join(parts[-2:]) if parts[-1] in ("train", "val", "test") else parts[-1]


def _need_training() -> None:
    import importlib.util

    if importlib.util.find_spec("lightning_fabric") is None:
        raise CommandError("training needs extra packages: pip install 'humanseg[train]'")
