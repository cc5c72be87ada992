"""Parallel processing in order with a bounded number of items in flight, for constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], *, parallel: int, ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Pairs of item and result, in the order of `items`.

    `work` runs in `parallel` threads. At most `ahead` items (1 or more) are taken before the oldest one is yielded.
    An error of `work` is raised in the position of its result, and ends the iteration.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(parallel) as pool:
        try:
            for item in source:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
