"""Parses one TorchServe input row and its headers into a photo and validated options.

An option may come as a form field, a JSON key, a request header `x-NAME`, or a query parameter. All forms share the
same names and checks. An option given twice with different values is rejected.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handler.errors import BadOption, BadRequest, ClientError, ConflictingOption, EmptyBody, UnknownOption
from handler.options import OPTION_NAMES, Options, parse_options, some
from humanseg.common.limits import MAX_BODY
from humanseg.segmentation.errors import TooLarge, UnsupportedFormat

PHOTO_FIELDS = ("image", "data", "file")
# A valid request has a dozen names. Base64 has none of these characters, so they are counted before JSON is parsed.
MAX_JSON_MARKS = {b":": 2_000, b",": 2_000, b"{": 1_000, b"[": 1_000}
MAX_FIELDS = 64
URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648's second alphabet, which has no padding either
MOST_INSTANCES = 32  # photos in one KServe request: a worker serves no other request meanwhile
REPEATED = "repeated fields"  # the row key under which the handler reports repeated fields


@dataclass(frozen=True)
class PhotoRequest:
    """One photo as sent, with its options. kserve: request and response use KServe's v1 envelope.

    Without a photo it polls the progress of a clip, see `Options.progress`.
    """

    photo: bytes
    options: Options
    kserve: bool = False


def is_visit(row: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether this is a `GET` for the page or service information: no body at all.

    The method does not reach a handler. `Content-Length` distinguishes a visit from a POST that lost its photo: the
    frontend adds its own lower-case header (0) only if the client sent none.
    """
    sent = headers.get("Content-Length", headers.get("content-length", "0"))
    lost = "Content-Length" in headers or sent.strip() not in ("", "0")
    return not lost and "content-type" not in {name.lower() for name in headers} and not any(row.values())


def is_description(headers: Mapping[str, str]) -> bool:
    """Whether the management API requests the model's own description (`?customized=true`).

    TorchServe signals this in a header, which any client can send, too: it must not bypass the API key.
    """
    return headers.get("describe") == "True"


def parse_requests(
    row: Mapping[str, Any], headers: Mapping[str, str], *, max_label: int = 200
) -> list[PhotoRequest | ClientError]:
    """Parse one input row and its headers: one photo, or several in KServe's v1 envelope.

    Of several photos, each invalid one is replaced by its error. Raises the errors of `parse_request`, and TooLarge
    or UnsupportedFormat if the Content-Encoding can't be decoded.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    body = _decompressed(row.get("body"), lower.get("content-encoding", ""))
    row = {**row, "body": body} if body is not None else row
    document: dict[str, Any] = {}
    if body is not None and _is_json(body, lower):
        document = _json_object(body)
        row = {**row, "body": document}  # parsed once
    if "instances" not in document:
        return [parse_request(row, headers, max_label=max_label)]
    instances = _instances(document)
    parsed: list[PhotoRequest | ClientError] = []
    for instance in instances:
        try:
            request = parse_request({**row, "body": instance}, headers, max_label=max_label, kserve=True)
            if len(instances) > 1 and request.options.output != "json":
                raise BadOption("output must be json for a request with several instances.")
            parsed.append(request)
        except ClientError as error:
            if len(instances) == 1:
                raise
            parsed.append(error)
    return parsed


def parse_request(
    row: Mapping[str, Any], headers: Mapping[str, str], *, max_label: int = 200, kserve: bool = False
) -> PhotoRequest:
    """Parse one input row (field name to bytes, str or parsed JSON) and its headers (any case).

    kserve: the row's body is an instance of KServe's v1 envelope.

    Raises EmptyBody, BadRequest, UnknownOption, BadOption or ConflictingOption.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if lower.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        # It was not a photo: a photo's bytes do not survive the frontend's form parsing.
        raise EmptyBody(_no_photo(lower))
    refuse_repeats(row)
    if len(row) > MAX_FIELDS:
        raise BadRequest(
            f"The request has {len(row):,} fields; the limit is {MAX_FIELDS}. Send a photo and its options."
        )
    values = {name: value for name, value in row.items() if name != REPEATED}
    body = values.pop("body", None)
    given: list[tuple[str, str]] = []
    photos: list[bytes] = []
    if body is not None:
        if _is_json(body, lower):
            document = _json_object(body)
            photos += [_from_base64(document.pop(name), name) for name in PHOTO_FIELDS if name in document]
            given += [(name, _text(value, name)) for name, value in document.items()]
        else:
            photos.append(_bytes(body))
    photos += [_bytes(values.pop(name)) for name in PHOTO_FIELDS if name in values]
    given += [(name, _text(value, name)) for name, value in values.items()]
    given += [(name, _header_text(lower[f"x-{name}"])) for name in OPTION_NAMES if f"x-{name}" in lower]

    merged = _merge(given)
    if "output" not in merged and (kserve or _accepts_json(lower.get("accept", ""))):
        merged["output"] = "json"
    options = parse_options(merged, max_label=max_label)
    if len(photos) > 1:
        raise BadRequest("The request contains more than one photo. Send one photo per request.")
    if not photos and options.progress:
        return PhotoRequest(b"", options)
    if not photos or not photos[0]:
        raise EmptyBody(_no_photo(lower))
    return PhotoRequest(photos[0], options, kserve)


def refuse_repeats(row: Mapping[str, Any]) -> None:
    """Raise ConflictingOption for fields that came twice with different values."""
    if row.get(REPEATED):
        names = some([str(name) for name in row[REPEATED]])
        raise ConflictingOption(f"Options given more than once with different values: {names}. Give each one once.")


def _merge(given: list[tuple[str, str]]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for name, value in given:
        if merged.setdefault(name, value) != value:
            raise ConflictingOption(
                f"{name} is given twice, as {merged[name][:40]!r} and {value[:40]!r}. Give it once."
            )
    return merged


def _is_json(body: Any, headers: Mapping[str, str]) -> bool:
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    return kind == "application/json" or isinstance(body, (dict, list, int, float, bool))


def _json_object(body: Any) -> dict[str, Any]:
    text = b"" if isinstance(body, (dict, list)) else _bytes(body)
    for mark, most in MAX_JSON_MARKS.items():
        if text.count(mark) > most:
            raise BadRequest(f"The JSON structure is too large: more than {most:,} of {mark.decode()!r}.")
    try:
        document = body if isinstance(body, (dict, list)) else json.loads(text, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON ({error}).") from None
    if not isinstance(document, dict):
        raise BadRequest('The JSON body must be an object such as {"image": "<base64>", "output": "mask"}.')
    return dict(document)


def _instances(document: dict[str, Any]) -> list[Any]:
    """KServe's v1 envelope, `{"instances": [{...}, ...]}`, without the envelope."""
    instances = document["instances"]
    if len(document) > 1 or not isinstance(instances, list) or not instances:
        raise BadRequest('Send {"instances": [{"image": "<base64>"}, ...]} and no other key.')
    if len(instances) > MOST_INSTANCES:
        raise BadRequest(f"The request has {len(instances)} instances; the limit is {MOST_INSTANCES}. Split it.")
    return [instance if isinstance(instance, dict) else [] for instance in instances]


def _decompressed(body: Any, encoding: str) -> Any:
    """`body` without its Content-Encoding: gzip, or none."""
    name = encoding.strip().lower()
    if body is None or name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip"):
        raise UnsupportedFormat(f"Content-Encoding {encoding[:40]!r} is not supported. Use gzip or none.")
    data, out = _bytes(body), bytearray()
    try:
        while data:  # a gzip file may be several, concatenated
            member = zlib.decompressobj(wbits=31)
            out += member.decompress(data, MAX_BODY + 1 - len(out))
            if len(out) > MAX_BODY:
                raise TooLarge(f"The decompressed body is larger than {MAX_BODY / 1e6:g} MB. Send a smaller photo.")
            if not member.eof:
                raise BadRequest("The gzip body is truncated. Send it completely.")
            data = member.unused_data
    except zlib.error:
        raise BadRequest("The body is not valid gzip. Compress it, or omit Content-Encoding.") from None
    return bytes(out)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if document.setdefault(name, value) != value:
            raise ConflictingOption(f"{name[:40]} is given twice in the JSON, with different values. Give it once.")
    return document


def _from_base64(value: Any, name: str) -> bytes:
    if isinstance(value, dict) and value.keys() == {"b64"}:  # TensorFlow Serving's convention
        value = value["b64"]
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be the photo's bytes as a base64 string.")
    text = value.split(",", 1)[1] if value.startswith("data:") and "," in value else value
    text = "".join(text.split()).translate(URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{name} is not valid base64. Encode the photo's bytes with: base64 -w0 photo.jpg") from None


def _text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (bytes, bytearray)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            if name not in OPTION_NAMES:  # most likely a photo in a field of another name
                raise UnknownOption(
                    f"Unknown field {name[:40]!r}. Send the photo in 'image', 'data' or 'file'."
                ) from None
            raise BadOption(f"{name} is not text.") from None
    if isinstance(value, (str, int, float)):
        return str(value)
    if name not in OPTION_NAMES:
        raise UnknownOption(f"Unknown key {name[:40]!r}. Options are {', '.join(OPTION_NAMES)}.")
    raise BadOption(f"{name} must be a string or a number.")


def _header_text(value: str) -> str:
    """A header's value as sent: the frontend decodes it as ISO 8859-1, but clients send UTF-8.

    >>> _header_text("caf\u00c3\u00a9"), _header_text("caf\u00e9")
    ('café', 'café')
    """
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else b""


def _accepts_json(accept: str) -> bool:
    """Whether `Accept` lists JSON before any picture or wildcard."""
    return wanted_type(accept) == "application/json"


def wanted_type(accept: str) -> str:
    """The first media type of an `Accept` header."""
    return accept.split(",")[0].split(";")[0].strip().lower()


def _no_photo(headers: Mapping[str, str]) -> str:
    fix = "Send the photo with curl -F image=@photo.jpg URL, or curl -T photo.jpg URL."
    if headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        return f"The body was sent as a web form without a photo (curl's default for --data-binary). {fix}"
    return f"The request contains no photo. {fix}"
