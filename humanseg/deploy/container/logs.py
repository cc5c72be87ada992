"""Converts every line of the container's output to one JSON object, with the request id if there is one.

log4j2.xml makes TorchServe write JSON; other lines (tracebacks, the supervisor's messages) are wrapped.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

# TorchServe's request ids are UUIDs, which the handler's messages contain.
REQUEST_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def as_json(line: str) -> str:
    r"""Convert one line of output to one JSON object: time (UTC), level, logger, message, and request_id if present.

    >>> as_json('{"time": "t", "level": "INFO", "logger": "MODEL_LOG", "message": "{\\"status\\": 200}"}')
    '{"time": "t", "level": "INFO", "logger": "MODEL_LOG", "status": 200}'
    """
    fields = _object(line)
    if fields is None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        level = "ERROR" if "Traceback" in line or "Error" in line else "INFO"
        fields = {"time": now, "level": level, "logger": "container", "message": line}
    inner = _object(str(fields.get("message", "")))
    if inner is not None:  # the handler's line about a request
        del fields["message"]
        fields |= inner
    elif "request_id" not in fields and (match := REQUEST_ID.search(str(fields.get("message", "")))):
        fields["request_id"] = match.group()
    return json.dumps(fields, ensure_ascii=False)


def _object(text: str) -> dict[str, object] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
