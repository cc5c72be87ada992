"""The parts of a run, each a function that measures one thing and saves it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, say, settle
from benchmarks.figures import OURS, OURS_OFF
from benchmarks.load import closed_loop, fixed_loop, open_loop
from benchmarks.machine import Clock
from benchmarks.memory import grow, worker_memory
from benchmarks.photos import write_shapes
from benchmarks.process_group import SERVED_PYTHON, ProcessGroup
from benchmarks.servers import DATA, HERE, ROOT, agreement, ask, peers, rembg
from benchmarks.usage import cpu_seconds, resident

SATURATED = 8  # clients: four photos for each of two cores
COSTED = {"small": 80, "typical": 48, "phone": 16}  # photos
SWEEP = (1, 2, 4, 8, 16, 32)
SHARES = (0.5, 0.8, 0.95)


def onnx_file(bench: Bench) -> Path:
    """Our network for rembg, rewritten."""
    path = DATA / "humanseg.onnx"
    command = [sys.executable, "-m", "benchmarks.rembg_model", str(bench.model), str(path)]
    subprocess.run(command, check=True, cwd=ROOT)
    return path


def start_all(bench: Bench) -> None:
    """Start peers and rembg, if they are not running."""
    for spec in (*peers(bench.model), rembg(onnx_file(bench))):
        if spec.name not in bench.running:
            bench.start(spec)


def race(bench: Bench, group: ProcessGroup) -> None:
    """Limit, ours, peers and rembg, one after another, in rounds."""
    start_all(bench)
    results: dict[str, Any] = {"limit": {}, "servers": {}, "agreement": {}, "start": {}, "resident": {}}
    for name, server in bench.running.items():
        results["start"][name] = server.start_seconds
        reference = ask(bench.running[OURS], bench.photos["typical"])
        answer = ask(server, bench.photos["typical"])
        results["agreement"][name] = agreement(answer, reference) if answer and reference else 0.0
        server.halt()
    for number in range(bench.plan.rounds):
        for photo, path in bench.photos.items():
            say(f"race, round {number + 1}, {photo}")
            limit = group.photos(path, "mask", bench.plan.seconds)
            results["limit"].setdefault(photo, []).append(asdict(limit))
            for name, server in bench.running.items():
                seen = bench.load(server, photo, "mask", SATURATED)
                results["servers"].setdefault(name, {}).setdefault(photo, []).append(seen)
    for name, server in bench.running.items():
        results["resident"][name] = asdict(resident(server.process.pid))
    results["resident"][OURS]["worker"] = worker_memory(bench.running[OURS].process.pid)
    results["resident"][OURS_OFF]["worker"] = worker_memory(bench.running[OURS_OFF].process.pid)
    bench.save("race", results)


def cost(bench: Bench, group: ProcessGroup) -> None:
    """CPU time per photo, over an exact number of photos: valid on a busy machine, too."""
    results: dict[str, Any] = {"limit": {}, "servers": {}, "resident": {}}
    start_all(bench)
    log = bench.scratch / "h2load.log"
    for server in bench.running.values():
        say(f"warming up {server.spec.name}")
        server.go_on()
        fixed_loop(server.target(bench.photos["small"], "mask"), SATURATED, COSTED["small"], log)
        server.halt()
    for photo, path in bench.photos.items():
        for _ in range(bench.plan.rounds):
            say(f"cost, {photo}")
            results["limit"].setdefault(photo, []).append(asdict(group.photos(path, "mask", bench.plan.seconds)))
            for name, server in bench.running.items():
                server.go_on()
                before, clock = cpu_seconds(server.process.pid), Clock()
                seen = fixed_loop(server.target(path, "mask"), SATURATED, COSTED[photo], log)
                settle(server)
                used = cpu_seconds(server.process.pid) - before
                server.halt()
                entry = {**asdict(seen), "cpu": used / COSTED[photo], "others": clock.others(used)}
                results["servers"].setdefault(name, {}).setdefault(photo, []).append(entry)
    for name, server in bench.running.items():
        results["resident"][name] = asdict(resident(server.process.pid))
    bench.save("cost", results)
    for name in list(bench.running):  # what follows is about ours and rembg
        if bench.running[name].spec.kind == "peer":
            bench.running.pop(name).stop()


def sweep(bench: Bench, group: ProcessGroup) -> None:
    """Ours by number of clients, and one photo at a time beside the limit's own time."""
    results: dict[str, Any] = {"servers": {}, "alone": {}}
    for _ in range(bench.plan.rounds):
        for photo, path in bench.photos.items():
            say(f"sweep, {photo}")
            results["alone"].setdefault(photo, []).append(asdict(group.photos(path, "mask", bench.plan.seconds, 1)))
            for name in (OURS_OFF, OURS):
                for clients in SWEEP if name != OURS or photo == "typical" else (1,):
                    seen = bench.load(bench.running[name], photo, "mask", clients)
                    results["servers"].setdefault(name, {}).setdefault(photo, {}).setdefault(str(clients), []).append(
                        seen
                    )
    bench.save("sweep", results)


def open_rates(bench: Bench, group: ProcessGroup) -> None:
    """Ours at fixed rates: shares of its measured capacity."""
    results: dict[str, Any] = {}
    for name in (OURS_OFF, OURS):
        for photo in bench.photos:
            server = bench.running[name]
            capacity = bench.load(server, photo, "mask", SATURATED)["rate"]
            for share in SHARES:
                say(f"open loop, {name}, {photo}, {share:.0%} of {capacity:.1f}/s")
                target = server.target(bench.photos[photo], "mask")
                seen = open_loop(target, share * capacity, bench.plan.open_seconds, bench.scratch / "h2load.log")
                settle(server)
                entry = {**asdict(seen), "share": seen.rate / capacity, "wanted": share}
                results.setdefault(name, {}).setdefault(photo, []).append(entry)
    bench.save("open", results)


def outputs(bench: Bench, group: ProcessGroup) -> None:
    """Mask, cutout and JSON: ours, rembg's server where it has the output, and the limit."""
    if "rembg" not in bench.running:
        bench.start(rembg(onnx_file(bench)))
    results: dict[str, Any] = {}
    for _ in range(bench.plan.rounds):
        for photo, path in bench.photos.items():
            for output in ("mask", "cutout", "json"):
                say(f"outputs, {photo}, {output}")
                entry = results.setdefault(photo, {}).setdefault(output, {})
                entry.setdefault("limit", []).append(asdict(group.photos(path, output, bench.plan.seconds)))
                for name in (OURS_OFF, "rembg"):
                    server = bench.running.get(name)
                    if server and output in server.spec.outputs:
                        entry.setdefault(name, []).append(bench.load(server, photo, output, SATURATED))
    bench.save("outputs", results)


def forward(bench: Bench, group: ProcessGroup) -> None:
    """The network alone on one core: bf16 (or what the CPU has), float32, and PyTorch eager."""
    results: dict[str, list[float]] = {}
    eager = [str(SERVED_PYTHON), "-m", "benchmarks.eager", str(bench.model)]
    with ProcessGroup(bench.model, 1, "float32") as exact:
        for number in range(max(3, bench.plan.rounds)):
            say(f"forward, round {number + 1}")
            results.setdefault("auto", []).append(group.forward(bench.plan.seconds, 1).seconds)
            results.setdefault("float32", []).append(exact.forward(bench.plan.seconds, 1).seconds)
            result = subprocess.run(eager, cwd=ROOT, capture_output=True, text=True, check=True)
            results.setdefault("torch", []).append(float(result.stdout.split()[-1]))
    bench.save("forward", results)


def memory(bench: Bench, group: ProcessGroup) -> None:
    """Resident memory of a worker over many requests, after photos of all common shapes."""
    say(f"memory, {bench.plan.requests} requests")
    server = bench.running[OURS_OFF]
    for path in (*write_shapes(bench.photos["small"]), bench.photos["phone"]):
        closed_loop(server.target(path, "mask"), SATURATED, 1)
    settle(server)
    bench.save(
        "memory",
        asdict(grow(server.target(bench.photos["small"], "mask"), server.process.pid, bench.plan.requests)),
    )


def gpu(bench: Bench, group: ProcessGroup) -> None:
    """The GPU, if there is one."""
    command = [sys.executable, "-m", "benchmarks.gpu", str(bench.model), str(bench.photos["typical"])]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    results = json.loads(result.stdout.splitlines()[-1])
    if results["gpu"] is None:
        say("gpu left out: there is none here")
        return
    say(f"GPU: {results['gpu']}")
    bench.save("gpu", results)


def rim(bench: Bench, group: ProcessGroup) -> None:
    """Colours at soft edges, where photographs with masks are at hand."""
    if bench.photographs is None:
        say("rim left out: it needs --data FOLDER (ccp/train and no_people)")
        return
    out = DATA / "rim.json"
    python = str(HERE / ".venv" / "rim" / "bin" / "python")
    quick = ["--photos", "4"] if bench.quick else []
    command = [python, "-m", "benchmarks.rim", str(bench.photographs), "--out", str(out), *quick]
    subprocess.run(command, check=True, cwd=ROOT)
    bench.save("rim", json.loads(out.read_text()))


RUNNERS: dict[str, Callable[[Bench, ProcessGroup], None]] = {
    "race": race, "cost": cost, "sweep": sweep, "open": open_rates, "outputs": outputs, "forward": forward,
    "memory": memory,
    "gpu": gpu, "rim": rim,
}  # fmt: skip
