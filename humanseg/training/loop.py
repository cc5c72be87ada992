"""The training loop, the same on a CPU, a GPU, and several of them (Lightning Fabric).

A run is a folder:
    settings.json    settings, git revision, versions, fingerprint of the data
    log.csv          loss, learning rate and speed every 20 steps; IoU of the held-out photos at each evaluation
    last.ckpt        the state for resuming: network, average, optimizer, step
    sheets/          held-out photos with their masks, one PNG per evaluation
    weights.safetensors   the averaged network for serving, at each evaluation and at the end

The weights that ship are an exponential moving average of the steps' (Polyak and Juditsky 1992; Mean
Teacher, Tarvainen and Valpola 2017). All randomness is a function of (seed, sample number), see
`humanseg.training.stream`, so a checkpoint needs no random state, and a resumed run gives the same weights.
"""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from humanseg.common.settings import SettingsError
from humanseg.segmentation.checkpoint import read_safetensors
from humanseg.segmentation.unet import EfficientUNet
from humanseg.segmentation.weights import Network, load_weights, save_weights, trainable
from humanseg.training.cpu_precision import float32_where_quicker
from humanseg.training.imagenet import load_encoder
from humanseg.training.losses import segmentation_loss
from humanseg.training.measure import measure_samples
from humanseg.training.samples import DataError, Sample, check, find_samples, fingerprint, split
from humanseg.training.settings import Settings, as_plain
from humanseg.training.sheets import sheet
from humanseg.training.stream import Pools, Stream

LOG_STEPS = 20
SAVE_STEPS = 5  # how often the processes of a run agree on whether a checkpoint is due
VALIDATION_PHOTOS = 48  # at each evaluation; `humanseg evaluate` uses the whole held-out part


def start_network(init: str, reinit: tuple[str, ...] = ()) -> Network:
    """The initial network: `imagenet`, `random`, or a weights file without the tensors in `reinit`."""
    if reinit:
        return _partly_new(Path(init), reinit)
    if init in ("imagenet", "random"):
        network = EfficientUNet()
        if init == "imagenet":
            load_encoder(network)
        return network
    return trainable(Path(init), load_weights(Path(init)).network)


def _partly_new(path: Path, reinit: tuple[str, ...]) -> EfficientUNet:
    """The shipped architecture with the tensors in `path`, except those whose names start with one of `reinit`."""
    if not path.is_file() or path.suffix != ".safetensors":
        raise SettingsError(f"init is {str(path)!r}; with reinit it must be a .safetensors weights file")
    network, state = EfficientUNet(), read_safetensors(path)[1]
    wanted = network.state_dict()
    for start in reinit:
        if not start or not any(name.startswith(start) for name in (*state, *wanted)):
            raise SettingsError(f"reinit: no tensor name in {path} or the network starts with {start!r}")
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(reinit)}
    shapes = {name: tensor.shape for name, tensor in wanted.items() if not name.startswith(reinit)}
    wrong = {(name, tensor.shape) for name, tensor in kept.items()} ^ set(shapes.items())
    if wrong:
        raise SettingsError(
            f"init: {path} does not match the network at {min(wrong)[0]!r}; reinit covers only {', '.join(reinit)}"
        )
    network.load_state_dict(wanted | kept)
    return network


def gather(settings: Settings) -> tuple[Pools, list[Sample]]:
    """The run's sources and validation photos; raises DataError with every invalid file."""
    pools = Pools([], [], [])
    validation: list[Sample] = []
    problems: list[str] = []
    for source in settings.data:
        try:
            samples = find_samples(source)
        except DataError as error:
            problems.append(str(error))
            continue
        problems += check(samples)
        share = settings.hold_out_empty if source.kind == "empty" else settings.hold_out
        share = share if source.hold_out is None else source.hold_out
        share = 0.0 if source.kind == "distractors" else share  # they are not used for validation
        training, kept = split(samples, share)
        if training:
            kinds = {"empty": pools.empty, "distractors": pools.distractors}
            kinds.get(source.kind, pools.people).append((training, source.weight))
        if source.kind == "masks":
            validation += kept
    if problems:
        raise DataError("\n".join(problems))
    if not pools.people:
        raise DataError("no photos with masks to train on; use a folder with img/ and mask/")
    return pools, sorted(validation, key=Sample.digest)[:VALIDATION_PHOTOS]


def rate(settings: Settings, step: int) -> float:
    """Learning rate schedule, as a factor: linear warm-up, then cosine down to 1 %."""
    warm = max(1, round(settings.warmup * settings.steps))
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, settings.steps - warm)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """The update of AveragedModel: `average += (1 - d) * (new - average)`.

    d rises with the number of steps n as (1 + n) / (10 + n) up to `decay`, so that a short run is not dominated by
    its initial, random weights.
    """

    def update(averaged: Any, current: Any, count: Any) -> None:
        share = 1.0 - min(decay, (1.0 + float(count)) / (10.0 + float(count)))
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(averaged, current, share)
        else:  # the norms' counters of batches
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)

    return update


def _groups(network: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Parameter groups: lower learning rate for the pretrained encoder; no weight decay for norms and biases."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        encoder = name.startswith(("stem.", "stages.")) and settings.init != "random"
        groups.setdefault((encoder, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "share": settings.encoder_rate if encoder else 1.0,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in groups.items()
    ]


def train(settings: Settings, out: Path, *, resume: bool = False, quiet: bool = False) -> Path:
    """Train with `settings` in the run folder `out`; returns the path of the final weights.

    With `resume`, continue from `out/last.ckpt` if it exists. Raises DataError before the first step.
    """
    # torchrun sets the number of processes on this machine; without it Fabric uses all GPUs, or one CPU process.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if settings.threads and not torch.cuda.is_available():
        torch.set_num_threads(max(1, settings.threads // max(processes, 1)))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // max(processes, 1) or 1
    fabric = Fabric(accelerator="auto", devices=processes or "auto", num_nodes=nodes, precision=settings.precision)
    fabric.launch()
    pools, validation = gather(settings)
    torch.manual_seed(settings.seed)
    bare = start_network(settings.init, settings.reinit).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if settings.frozen_stages and isinstance(bare, EfficientUNet):
        for part in (bare.stem, *bare.stages[: settings.frozen_stages]):
            part.requires_grad_(False)
    average = AveragedModel(bare, multi_avg_fn=moving_average(settings.ema_decay), use_buffers=True)
    average = average.to(fabric.device)
    teacher = None
    if settings.distil:
        teacher = load_weights(Path(settings.distil)).network
        teacher = teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        teacher = teacher.requires_grad_(False).eval().to(fabric.device)
    optimizer: Any = torch.optim.AdamW(_groups(bare, settings), lr=settings.learning_rate)
    if fabric.device.type == "cpu":
        float32_where_quicker(bare)
    network, optimizer = fabric.setup(bare, optimizer)
    state: dict[str, Any] = {
        "network": network,
        "average": average,
        "optimizer": optimizer,
        "step": 0,
        "seconds": 0.0,
    }
    checkpoint = out / "last.ckpt"
    if resume and checkpoint.is_file():
        fabric.load(checkpoint, state)
    elif fabric.is_global_zero:
        _open_run(settings, out, pools)
    per_device = max(1, settings.batch_size // fabric.world_size)
    loader = _loader(fabric, settings, pools, state["step"], per_device)
    began = time.monotonic() - state["seconds"]
    saved = time.monotonic()
    report_steps = max(1, settings.eval_interval // settings.batch_size)
    losses: list[Tensor] = []
    mark, mark_step = time.monotonic(), state["step"]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=quiet or not fabric.is_global_zero) as progress:
        bar = progress.add_task("steps", total=settings.last_step, completed=state["step"])
        for photo, clean, mask, taught in loader:
            share = rate(settings, state["step"])
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * share * group["share"]
            target = mask if teacher is None else torch.lerp(mask, teacher_probability(teacher, clean), taught)
            network.train()
            logits = network(photo.contiguous(memory_format=torch.channels_last))
            loss = segmentation_loss(logits.float(), target, settings.edge_weight)
            fabric.backward(loss)
            fabric.clip_gradients(network, optimizer, max_norm=settings.grad_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(bare)
            losses.append(loss.detach())
            state["step"] += 1
            progress.update(bar, completed=state["step"])
            step = state["step"]
            last = step >= settings.last_step
            state["seconds"] = time.monotonic() - began
            if fabric.is_global_zero and (step % LOG_STEPS == 0 or last):
                speed = (step - mark_step) * settings.batch_size / max(time.monotonic() - mark, 1e-9)
                mark, mark_step = time.monotonic(), step
                mean = float(torch.stack(losses).mean())
                losses.clear()
                _log(
                    out,
                    step,
                    loss=mean,
                    learning_rate=settings.learning_rate * share,
                    samples_per_second=speed,
                )
                progress.update(bar, description=f"loss {mean:.3f}")
            if fabric.is_global_zero and (step % report_steps == 0 or last):
                _report(settings, out, average.module, validation, step, state["seconds"])
                mark, mark_step = time.monotonic(), step
            due = False
            if step % SAVE_STEPS == 0:  # all processes save, or none
                due = fabric.broadcast(time.monotonic() - saved > settings.save_every)
            if due or last:
                fabric.save(checkpoint.with_suffix(".tmp"), state)
                if fabric.is_global_zero:
                    checkpoint.with_suffix(".tmp").replace(checkpoint)
                saved = time.monotonic()
            if last:
                break
    return out / "weights.safetensors"


def teacher_probability(teacher: nn.Module, photo: Tensor) -> Tensor:
    """Mean probability `[N, 1, H, W]` of a frozen network for photos `[N, 3, H, W]` and their mirror images.

    Test-time augmentation is better than a single pass, and a network can learn its result (self-distillation;
    Radosavovic et al., "Data Distillation", 2018).
    """
    bfloat16 = torch.autocast(photo.device.type, torch.bfloat16)
    with torch.no_grad(), bfloat16:
        photo = photo.contiguous(memory_format=torch.channels_last)
        both = torch.cat((photo, photo.flip(-1)))
        straight, mirrored = teacher(both).float().sigmoid().chunk(2)
        mean: Tensor = (straight + mirrored.flip(-1)) / 2
        return mean


def _loader(
    fabric: Fabric, settings: Settings, pools: Pools, step: int, per_device: int
) -> Iterator[tuple[Tensor, ...]]:
    stream = Stream(settings, pools, start=step * settings.batch_size)
    loader: Any = DataLoader(
        stream,
        batch_size=per_device,
        num_workers=settings.workers,
        drop_last=True,
        prefetch_factor=4 if settings.workers else None,
        pin_memory=fabric.device.type == "cuda",
    )
    prepared: Any = fabric.setup_dataloaders(loader)
    batches: Iterator[tuple[Tensor, ...]] = iter(prepared)
    return batches


def _report(settings: Settings, out: Path, network: Any, validation: list[Sample], step: int, seconds: float) -> None:
    """Evaluate the averaged network on held-out photos, draw their masks, write its weights."""
    network.eval()
    notes = {**settings.notes, "step": str(step), "training_seconds": f"{seconds:.0f}"}
    path = out / "weights.safetensors"
    save_weights(path, network, input_size=settings.size, threshold=0.5, **notes)
    if validation:
        weights = load_weights(path)
        results = measure_samples(weights, validation)
        mean = sum(result.iou for result in results) / len(results)
        _log(out, step, held_out_iou=mean)
        (out / "sheets").mkdir(exist_ok=True)
        sheet(results[:24], out / "sheets" / f"{step:06d}.png")


def _log(out: Path, step: int, **values: float) -> None:
    names = ("step", "time", "loss", "learning_rate", "samples_per_second", "held_out_iou")
    path = out / "log.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, names)
        if fresh:
            writer.writeheader()
        row = {name: f"{value:.6g}" for name, value in values.items()}
        writer.writerow({"step": step, "time": time.strftime("%H:%M:%S"), **row})


def _open_run(settings: Settings, out: Path, pools: Pools) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.csv").unlink(missing_ok=True)
    revision = subprocess.run(
        ("git", "rev-parse", "HEAD"), capture_output=True, text=True, check=False
    ).stdout.strip()
    samples = pools.samples
    facts = {
        "settings": as_plain(settings),
        "git_revision": revision or "unknown",
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "photos": len(samples),
        "data_sha256": fingerprint(samples),
    }
    (out / "settings.json").write_text(json.dumps(facts, indent=2) + "\n")
