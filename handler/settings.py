"""The handler's settings: config/model-config.yaml, validated once at load into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

ENGINES = ("auto", "openvino", "torch")
PRECISIONS = ("auto", "float32", "bfloat16")

# What TorchServe 0.12 itself reads from this file. It ignores what it does not know in silence,
# so that a misspelt `batchsize` would go unnoticed: here it stops the load.
TORCHSERVE_KEYS = frozenset(
    {
        *("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout"),
        *("deviceType", "deviceIds", "parallelType", "parallelLevel", "useVenv", "maxRetryTimeoutInSec"),
        *("maxNumSequence", "sequenceMaxIdleMSec", "maxSequenceJobQueueSize", "continuousBatching"),
        *("asyncCommunication", "clientTimeoutInMills", "useJobTicket", "jobQueueSize"),
    }
)
OWN_KEYS = frozenset({"handler", "archive"})


class SettingsError(ValueError):
    """A setting that stops the load: one line that names the key, what came, and what it takes."""


@dataclass(frozen=True)
class HandlerSettings:
    """The `handler:` section.

    engine: "openvino" (CPU), "torch" (CUDA, or CPU as the reference), or "auto": torch where TorchServe gives
        the worker a GPU, else openvino.
    precision: "bfloat16", "float32", or "auto": bfloat16 where the hardware has it.
    threads: per worker; 0 takes OMP_NUM_THREADS (serve.sh sets cores / workers), else 1.
    threshold: a pixel above it is a person, 0..1 open; None takes the one that was chosen with the weights.
    max_megapixels: larger photos are answered 413.
    photos_per_key: photos that one API key may have under work at a time, in all workers; 0: any number.
    max_label: longest `x-label`, in characters.
    """

    engine: str = field(default="auto", metadata={"choices": ENGINES})
    precision: str = field(default="auto", metadata={"choices": PRECISIONS})
    threads: int = field(default=0, metadata={"least": 0, "most": 1024})
    threshold: float | None = field(default=None, metadata={"above": 0.0, "below": 1.0})
    max_megapixels: float = field(default=50.0, metadata={"above": 0.0, "below": 10_000.0})
    photos_per_key: int = field(default=0, metadata={"least": 0, "most": 1024})
    max_label: int = field(default=200, metadata={"least": 0, "most": 2000})


def handler_settings(config: Mapping[str, Any]) -> HandlerSettings:
    """Validate the whole of model-config.yaml and return its `handler:` section. Raises SettingsError."""
    unknown = sorted(str(key) for key in config if key not in TORCHSERVE_KEYS | OWN_KEYS)
    if unknown:
        raise SettingsError(f"model-config.yaml: unknown key {unknown[0]!r}. {_nearest(unknown[0])}")
    section = config.get("handler") or {}
    if not isinstance(section, Mapping):
        raise SettingsError(f"model-config.yaml: 'handler' must hold keys and values, not {section!r}.")
    known = {each.name: each for each in fields(HandlerSettings)}
    values = {}
    for key, value in section.items():
        if key not in known:
            raise SettingsError(f"model-config.yaml: unknown key 'handler.{key}'. Known are {', '.join(known)}.")
        values[key] = _checked(f"handler.{key}", value, known[key].metadata, known[key].default)
    return HandlerSettings(**values)


def _checked(key: str, value: Any, rule: Mapping[str, Any], default: Any) -> Any:
    """`value` if it keeps `rule`, as the type of the rule's bounds."""
    if "choices" in rule:
        if value not in rule["choices"]:
            raise SettingsError(_bad(key, value, f"one of {', '.join(rule['choices'])}", default))
        return value
    if value is None and default is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if "least" in rule:
        if not (isinstance(value, int) and number and rule["least"] <= value <= rule["most"]):
            raise SettingsError(_bad(key, value, f"a whole number from {rule['least']} to {rule['most']}", default))
        return value
    if not (number and rule["above"] < value < rule["below"]):
        raise SettingsError(_bad(key, value, f"a number between {rule['above']:g} and {rule['below']:g}", default))
    return float(value)


def _bad(key: str, value: Any, wanted: str, default: Any) -> str:
    hint = "" if default in (None, MISSING) else f", for example {default}"
    return f"model-config.yaml: {key} is {value!r}, but must be {wanted}{hint}."


def _nearest(key: str) -> str:
    lower = {known.lower(): known for known in TORCHSERVE_KEYS | OWN_KEYS}
    match = lower.get(key.lower())
    return f"Did you mean {match!r}?" if match else "Settings of the handler go under 'handler:'."
