"""Messages of TorchServe's .proto files, written by hand: the wheel carries no stubs."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """`value` in base 128, lowest group first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | int) -> bytes:
    """One field: bytes, or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def prediction(model: str, inputs: dict[str, bytes]) -> bytes:
    """inference.proto, PredictionsRequest."""
    pairs = (field(1, name.encode()) + field(2, value) for name, value in inputs.items())
    return field(1, model.encode()) + b"".join(field(3, pair) for pair in pairs)


def registration(url: str, model: str) -> bytes:
    """management.proto, RegisterModelRequest, with one worker at once."""
    return field(3, 1) + field(5, model.encode()) + field(8, 1) + field(9, url.encode())
