"""Every line that the container prints, as one JSON object, with the request id where a request caused it.

log4j2.xml beside this file lets TorchServe write JSON; what else comes (a traceback, the
supervisor's words) is wrapped.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

# TorchServe's request ids are UUIDs, so are the handler's words about them.
REQUEST_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def as_json(line: str) -> str:
    r"""One line of output as one JSON object: time (UTC), level, logger, message, request_id if it names one.

    >>> as_json('{"time": "t", "level": "INFO", "logger": "MODEL_LOG", "message": "{\\"status\\": 200}"}')
    '{"time": "t", "level": "INFO", "logger": "MODEL_LOG", "status": 200}'
    """
    found = _object(line)
    if found is None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        level = "ERROR" if "Traceback" in line or "Error" in line else "INFO"
        found = {"time": now, "level": level, "logger": "container", "message": line}
    inner = _object(str(found.get("message", "")))
    if inner is not None:  # the handler's line about a request
        del found["message"]
        found |= inner
    elif "request_id" not in found and (match := REQUEST_ID.search(str(found.get("message", "")))):
        found["request_id"] = match.group()
    return json.dumps(found, ensure_ascii=False)


def _object(text: str) -> dict[str, object] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
