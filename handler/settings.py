"""The handler's settings: config/model-config.yaml, validated once at load into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from humanseg.common.settings import SettingsError, from_mapping, integer, number, one_of

# The keys of TorchServe 0.12. It silently ignores unknown keys such as a misspelt `batchsize`; here they stop the
# load.
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

    engine: "openvino" (CPU), "torch" (CUDA, or CPU as the reference), "onnxruntime" (an ONNX graph, if it is
    installed), or "auto": the GPU engine if TorchServe assigns the worker a GPU, else openvino.
    precision: "bfloat16", "float32", or "auto": bfloat16 if the hardware supports it.
    threads: per worker; 0 uses OMP_NUM_THREADS (serve.sh sets cores / workers), else 1.
    threshold: pixels above it are person, 0..1 exclusive; None uses the one stored with the weights.
    max_megapixels: larger photos are answered 413.
    photos_per_key: concurrent photos of one API key, over all workers; 0: unlimited.
    max_video_seconds: longer clips are answered 413; 0 rejects all clips.
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
    """Validate all of model-config.yaml and return its `handler:` section. Raises SettingsError."""
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
