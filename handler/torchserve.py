"""Corrects what TorchServe 0.12 does to a request before a handler receives it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from handler.options import OPTION_NAMES
from handler.request import REPEATED

OPTION_HEADERS = {f"x-{name}" for name in OPTION_NAMES}


def request_headers(context: Any, index: int) -> Mapping[str, str]:
    """The request's headers, without the form fields' headers that TorchServe adds as dicts."""
    everything = context.get_all_request_header(index)
    return {name: value for name, value in everything.items() if isinstance(value, str)}


def keep_repeated_fields() -> None:
    """Make TorchServe report repeated fields, and pass bodies on unchanged.

    Its `retrieve_data_for_inference` folds the parameters and headers of a request into dicts, where the last of two
    equal names silently wins. Names with different values are added under `REPEATED`.
    """
    # Otherwise bodies of type text/* and application/json arrive decoded or not, depending on their content.
    os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
    from ts.service import Service

    original = Service.retrieve_data_for_inference
    if getattr(original, "reports_repeats", False):
        return

    def reporting(batch: Any) -> Any:
        for request in batch or ():
            names = repeated(request["parameters"], request.get("headers") or ())
            if names:
                request["parameters"].append({"name": REPEATED, "contentType": "", "value": names})
        return original(batch)

    reporting.reports_repeats = True  # type: ignore[attr-defined]
    Service.retrieve_data_for_inference = staticmethod(reporting)


def quieten_logs() -> None:
    """Suppress TorchServe's line for each request; keep our own lines and its metrics, which are log lines, too."""
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("segmentation_handler", "handler", "humanseg", "ts.metrics"):
        logging.getLogger(name).setLevel(logging.INFO)


def repeated(parameters: Any, headers: Any) -> list[str]:
    """Names of fields, and of our `x-` headers, that came with two different values.

    >>> repeated([{"name": "output", "value": b"mask"}, {"name": "output", "value": b"cutout"}], [])
    ['output']
    """
    seen: dict[str, Any] = {}
    names: list[str] = []
    pairs = [(parameter["name"], parameter["value"]) for parameter in parameters]
    for header in headers:
        name = bytes(header["name"]).decode("utf-8", "replace").lower()
        if name in OPTION_HEADERS:  # proxies may repeat other headers
            pairs.append((name, header["value"]))
    for name, value in pairs:
        if seen.setdefault(name, value) != value and name not in names:
            names.append(name)
    return names
