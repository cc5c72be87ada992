"""Users: threads that send photos to a served model and remember every answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

import requests

from tests.archive.helpers import clean_photo, digest


@dataclass
class Load:
    """Use as a context manager: sends photos to `url` from `threads` threads until the block is left."""

    url: str
    threads: int = 3
    pause: float = 0.0  # seconds between two photos of one thread
    headers: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)  # request id -> SHA-256 of the photo
    outcomes: Counter[str] = field(default_factory=Counter)  # "200 spooled", "503", "ConnectionError", ...

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._running: list[threading.Thread] = []
        self._stock = [(photo, digest(photo)) for photo in map(clean_photo, range(12))]

    def __enter__(self) -> Load:
        for number in range(self.threads):
            thread = threading.Thread(target=self._user, args=(number,))
            thread.start()
            self._running.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join()

    @property
    def failed(self) -> dict[str, int]:
        """What was not 200, with how often."""
        return {what: number for what, number in self.outcomes.items() if not what.startswith("200 ")}

    def _user(self, number: int) -> None:
        headers = {"Content-Type": "image/jpeg", **self.headers}
        with requests.Session() as session:
            while not self._stop.is_set():
                photo, sha256 = self._stock[number % len(self._stock)]
                number += 1
                try:
                    answer = session.post(self.url, data=photo, headers=headers, timeout=60)
                except requests.RequestException as error:
                    self.outcomes[type(error).__name__] += 1
                    time.sleep(0.1)
                    continue
                archived = answer.headers.get("x-archived", "")
                what = f"200 {archived}" if answer.status_code == 200 else str(answer.status_code)
                self.outcomes[what] += 1
                if archived == "spooled":
                    self.acknowledged[answer.headers["x-request-id"]] = sha256
                elif answer.status_code != 200:
                    time.sleep(0.1)
                self._stop.wait(self.pause)
