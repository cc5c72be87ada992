"""The handler's settings: config/model-config.yaml, validated once at load into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from humanseg.common.settings import SettingsError, from_mapping, integer, number, one_of

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


@dataclass(frozen=True)
class HandlerSettings:
    """The `handler:` section.

    engine: "openvino" (CPU), "torch" (CUDA, or CPU as the reference), "onnxruntime" (an ONNX graph, where that is
        installed), or "auto": on a GPU that TorchServe gives the worker the one that runs there, else openvino.
    precision: "bfloat16", "float32", or "auto": bfloat16 where the hardware has it.
    threads: per worker; 0 takes OMP_NUM_THREADS (serve.sh sets cores / workers), else 1.
    threshold: a pixel above it is a person, 0..1 open; None takes the one that was chosen with the weights.
    max_megapixels: larger photos are answered 413.
    photos_per_key: photos that one API key may have under work at a time, in all workers; 0: any number.
    max_video_seconds: longer clips are answered 413; 0 takes none.
    max_label: longest `x-label`, in characters.
    """

    engine: str = one_of("auto", "openvino", "torch", "onnxruntime")
    precision: str = one_of("auto", "float32", "bfloat16")
    threads: int = integer(0, least=0, most=1024)
    threshold: float | None = number(None, least=0, most=1, open_ends=True)
    max_megapixels: float = number(50.0, least=0, most=10_000, open_ends=True)
    photos_per_key: int = integer(0, least=0, most=1024)
    max_video_seconds: float = number(30.0, least=0, most=3600)
    max_label: int = integer(200, least=0, most=2000)


def handler_settings(config: Mapping[str, Any]) -> HandlerSettings:
    """Validate the whole of model-config.yaml and return its `handler:` section. Raises SettingsError."""
    unknown = sorted(str(key) for key in config if key not in TORCHSERVE_KEYS | OWN_KEYS)
    if unknown:
        raise SettingsError(f"model-config.yaml: unknown key {unknown[0]!r}. {_nearest(unknown[0])}")
    try:
        return from_mapping(HandlerSettings, config.get("handler"), "handler")
    except SettingsError as error:
        raise SettingsError(f"model-config.yaml: {error}") from None


def _nearest(key: str) -> str:
    lower = {known.lower(): known for known in TORCHSERVE_KEYS | OWN_KEYS}
    match = lower.get(key.lower())
    return f"Did you mean {match!r}?" if match else "Settings of the handler go under 'handler:'."
