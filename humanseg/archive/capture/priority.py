"""The archive's priority on a machine that answers users."""

from __future__ import annotations

import contextlib
import os


def give_way() -> None:
    """From now on this thread, and all that it starts, runs when nobody else wants the CPU (SCHED_IDLE, sched(7)).

    A kernel or a sandbox that refuses is no error: the archive then takes its share like everybody else. There is no
    way back without privileges.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
