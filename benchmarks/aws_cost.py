"""Cost of photos on AWS: `python -m benchmarks.aws_cost` prints the table of deploy/aws/README.md.

    python -m benchmarks.aws_cost --measure http://127.0.0.1:8080,http://127.0.0.1:8081 --photo photo.jpg

measures instead how many photos one core of a running server processes, by the CPU seconds of TorchServe and its
workers. This is valid on a busy machine, too, unlike photos per second of wall-clock time.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

HOURS = 730.0  # in a month, by AWS's convention
# Measured as above on 2026-11-22 with a JPEG of 12 megapixels: one worker of one thread, defaults, archive on.
PHOTOS_PER_CPU_SECOND = 8.2
PHOTO_MB = 3.0  # in the archive, with its mask and record
SEGMENT_MB = 64 * 1.048576  # per segment: at full load at least three quarters of it are uploaded as one object
PUTS_A_SEGMENT = 2  # the tar and its table
USED = 0.6  # of the CPU: the target of the fleet's scaling
PRICES_OF = "AWS on-demand list price, us-east-1, as known in 2026, check before you rely on it"
VOLUME, ADDRESS, ALARMS = (
    30 * 0.08,
    0.005 * HOURS,
    3.20,
)  # $ a month: 30 GiB gp3, public IPv4, monitoring and alarms
BALANCER = 0.0225 * HOURS + 0.008 * HOURS  # $ a month: an Application Load Balancer at one capacity unit
PUT, STORED = 0.005 / 1000, 0.023  # $: one PUT; one GB for a month


@dataclass(frozen=True)
class Machine:
    """An instance type. vcpus: two of Intel's make a physical core; AMD's c7a and Graviton have one for each."""

    name: str
    vcpus: int
    memory_gib: int
    dollars_an_hour: float
    # Core seconds that one vCPU provides per second, with all of them busy; None if not measured.
    cpu_seconds: float | None


MACHINES = (
    Machine("c7i.large", 2, 4, 0.08925, 0.6),
    Machine("c7i.xlarge", 4, 8, 0.1785, 0.6),
    Machine("c7a.xlarge", 4, 8, 0.20528, 1.0),
    Machine("c7g.xlarge", 4, 8, 0.145, None),
    Machine("c8g.xlarge", 4, 8, 0.15952, None),
)


def photos_a_second(machine: Machine) -> float | None:
    """With all cores busy; None if no such core was measured."""
    return machine.cpu_seconds and machine.vcpus * machine.cpu_seconds * PHOTOS_PER_CPU_SECOND


def month(machine: Machine) -> float:
    """$ for one instance that runs all month, without the archive's storage."""
    return machine.dollars_an_hour * HOURS + VOLUME + ADDRESS + ALARMS


def million(machine: Machine) -> float | None:
    """$ of instance time for a million photos in a fleet at `USED` CPU."""
    photos = photos_a_second(machine)
    return photos and 1e6 / (photos * USED) / 3600 * machine.dollars_an_hour


def puts_a_million(photo_mb: float) -> float:
    """PUT requests for a million records at full load, each segment three quarters full."""
    records = max(1, int(SEGMENT_MB * 3 / 4 / photo_mb))
    return 1e6 / records * PUTS_A_SEGMENT


def archive_million() -> tuple[float, float]:
    """$ for a million records at full load: PUT requests, and one month of storage."""
    return puts_a_million(PHOTO_MB) * PUT, 1e6 * PHOTO_MB / 1000 * STORED


def idle_month() -> float:
    """$ a month for the PUT requests of a server with little traffic: at most one segment a minute."""
    return HOURS * 60 * PUTS_A_SEGMENT * PUT


def table() -> str:
    """The table of deploy/aws/README.md, in Markdown."""
    columns = (
        "instance",
        "vCPU, GiB",
        "$ an hour",
        "one instance, $ a month",
        "photos a second",
        "$ a million photos",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for item in MACHINES:
        lines.append(
            f"| `{item.name}` | {item.vcpus}, {item.memory_gib} | {item.dollars_an_hour:.4f} | {month(item):.0f} "
            f"| {_or_measure(photos_a_second(item), 0)} | {_or_measure(million(item), 2)} |"
        )
    return "\n".join(lines)


def _or_measure(value: float | None, digits: int) -> str:
    return "measure" if value is None else f"{value:.{digits}f}"


def measure(inference: str, management: str, photo: Path, count: int = 60) -> float:
    """Photos per CPU second of a running server: its workers and the Java process that started them."""
    import psutil

    from humanseg.client import Client

    with Client(inference, management_url=management) as server:
        data = photo.read_bytes()
        for _ in range(10):
            server.segment(data)
        pids = [worker.pid for worker in server.management.version(server.model).workers]
        processes = [psutil.Process(pid) for pid in pids]
        processes += list({parent.pid: parent for process in processes if (parent := process.parent())}.values())

        def used() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in processes)

        before = used()
        for _ in range(count):
            server.segment(data)
        return count / (used() - before)


def main() -> None:
    """Print the table, or a measurement."""
    parser = argparse.ArgumentParser(description="Cost of photos on AWS.")
    parser.add_argument("--measure", metavar="INFERENCE,MANAGEMENT")
    parser.add_argument("--photo", type=Path)
    given = parser.parse_args()
    if given.measure:
        inference, _, management = given.measure.partition(",")
        print(f"{measure(inference, management, given.photo):.1f} photos per CPU second")
        return
    put, kept = archive_million()
    print(table())
    print(f"\nArchive of a million photos of {PHOTO_MB:g} MB: {put:.2f} $ to put, {kept:.0f} $ a month to keep.")
    print(f"A server with little traffic puts one segment a minute at most: {idle_month():.2f} $ a month.")
    print(f"Load balancer: {BALANCER:.0f} $ a month. Prices: {PRICES_OF}.")


if __name__ == "__main__":
    main()
