"""One photo and validated options, whichever way they came."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from typing import Any

import pytest

from handler.errors import BadOption, BadRequest, ClientError, ConflictingOption, EmptyBody, UnknownOption
from handler.options import Options
from handler.request import REPEATED, PhotoRequest, is_visit, parse_request, parse_requests
from humanseg.segmentation.errors import TooLarge, UnsupportedFormat

PHOTO = b"\xff\xd8\xff photo"
BASE64 = base64.b64encode(PHOTO).decode()
JSON = {"content-type": "application/json"}


def json_row(**document: Any) -> dict[str, Any]:
    return {"body": json.dumps(document).encode()}


@pytest.mark.parametrize("field", ["image", "data", "file", "body"])
def test_the_photo_is_found_in_each_of_its_fields(field: str) -> None:
    request = parse_request({field: bytearray(PHOTO)}, {})
    assert request.photo == PHOTO
    assert request.options == Options()


@pytest.mark.parametrize(
    ("row", "headers"),
    [
        ({"image": PHOTO, "output": bytearray(b"cutout"), "threshold": b"0.25"}, {}),
        ({"image": PHOTO, "output": "cutout", "threshold": "0.25"}, {}),
        ({"body": PHOTO}, {"x-output": "cutout", "X-Threshold": "0.25"}),
        (json_row(image=BASE64, output="cutout", threshold=0.25), JSON),
        (json_row(data="data:image/jpeg;base64," + BASE64, output="cutout"), JSON | {"x-threshold": "0.25"}),
        ({"body": {"image": BASE64, "output": "cutout", "threshold": 0.25}}, {}),
    ],
)
def test_options_mean_the_same_whichever_way_they_come(row: dict[str, Any], headers: dict[str, str]) -> None:
    request = parse_request(row, headers)
    assert request.photo == PHOTO
    assert request.options == Options(output="cutout", threshold=0.25)


def test_quality_is_an_option_that_the_archive_keeps_where_it_is_not_the_default() -> None:
    assert parse_request({"image": PHOTO}, {}).options.quality == "fast"
    asked = parse_request({"image": PHOTO, "quality": b"Best"}, {}).options
    assert (asked.quality, asked.given()) == ("best", {"quality": "best"})
    with pytest.raises(BadOption, match="fast, best"):
        parse_request({"image": PHOTO}, {"x-quality": "good"})


def test_accept_json_asks_for_json_unless_an_output_is_named() -> None:
    accept = {"Accept": "application/json"}
    assert parse_request({"body": PHOTO}, accept).options.output == "json"
    assert parse_request({"image": PHOTO, "output": b"mask"}, accept).options.output == "mask"
    assert parse_request({"body": PHOTO}, {"Accept": "image/*, application/json"}).options.output == "mask"


def test_kserve_envelope_is_opened() -> None:
    (request,) = parse_requests(json_row(instances=[{"image": BASE64, "keep": "largest"}]), JSON)
    assert isinstance(request, PhotoRequest)
    assert (request.kserve, request.photo, request.options.output) == (True, PHOTO, "json")
    with pytest.raises(BadRequest, match="and no other key"):
        parse_requests(json_row(instances=[{"image": BASE64}], output="json"), JSON)
    with pytest.raises(EmptyBody):
        parse_requests(json_row(instances=[{}]), JSON)


def test_several_instances_come_in_order_each_with_its_own_error() -> None:
    instances = [{"image": BASE64}, {"image": "?"}, {"data": {"b64": BASE64}, "keep": "largest"}, 3, {},
                 {"image": BASE64, "output": "mask"}, {"image": BASE64, "colour": "red"}]  # fmt: skip
    parsed = parse_requests(json_row(instances=instances), JSON | {"x-threshold": "0.25"})
    kinds = [PhotoRequest, BadRequest, PhotoRequest, BadRequest, EmptyBody, BadOption, UnknownOption]
    assert [type(item) for item in parsed] == kinds
    first, third = parsed[0], parsed[2]
    assert isinstance(first, PhotoRequest)
    assert isinstance(third, PhotoRequest)
    assert first.options == Options(output="json", threshold=0.25)
    assert third.options == Options(output="json", threshold=0.25, keep="largest")
    with pytest.raises(BadRequest, match="has 33 instances; the limit is 32"):
        parse_requests(json_row(instances=[{"image": BASE64}] * 33), JSON)
    with pytest.raises(BadRequest, match="and no other key"):
        parse_requests(json_row(instances=[]), JSON)


def test_base64_may_be_url_safe_and_without_padding() -> None:
    photo = bytes(range(256))
    text = base64.urlsafe_b64encode(photo).decode()
    assert "-" in text
    assert "_" in text
    for given in (text, text.rstrip("="), base64.b64encode(photo).decode()):
        assert parse_request(json_row(image=given), JSON).photo == photo
    for wrong in ("a", "====a", "äöü", "ab\x00cd"):
        with pytest.raises(ClientError):
            parse_request(json_row(image=wrong), JSON)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_a_compressed_body_is_decompressed(encoding: str) -> None:
    coded = {"Content-Encoding": encoding}
    (request,) = parse_requests({"body": gzip.compress(PHOTO)}, coded)
    assert isinstance(request, PhotoRequest)
    assert request.photo == PHOTO
    (request,) = parse_requests({"body": gzip.compress(PHOTO[:5]) + gzip.compress(PHOTO[5:])}, coded)
    assert isinstance(request, PhotoRequest)
    assert request.photo == PHOTO
    (request,) = parse_requests({"body": gzip.compress(json_row(image=BASE64, output="json")["body"])}, coded | JSON)
    assert isinstance(request, PhotoRequest)
    assert (request.photo, request.options.output) == (PHOTO, "json")
    assert parse_requests({"body": PHOTO}, {"content-encoding": "identity"})


def test_a_compressed_body_that_can_t_be_read_is_the_client_s_fault() -> None:
    coded = {"content-encoding": "gzip"}
    with pytest.raises(BadRequest, match="is not valid gzip"):
        parse_requests({"body": PHOTO}, coded)
    with pytest.raises(BadRequest, match="gzip body is truncated"):
        parse_requests({"body": gzip.compress(PHOTO)[:-4]}, coded)
    with pytest.raises(UnsupportedFormat, match="Content-Encoding 'br' is not supported"):
        parse_requests({"body": PHOTO}, {"content-encoding": "br"})


def test_a_compressed_body_takes_no_more_memory_than_a_plain_one_may() -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    tracemalloc.start()
    with pytest.raises(TooLarge, match="decompressed body is larger than 64 MB"):
        parse_requests({"body": bomb}, {"content-encoding": "gzip"})
    assert tracemalloc.get_traced_memory()[1] < 200_000_000
    tracemalloc.stop()


def test_archive_and_label_are_read() -> None:
    options = parse_request({"image": PHOTO}, {"x-archive": "no", "x-label": "Bücherregal 7"}).options
    assert (options.archive, options.label) == ("no", "Bücherregal 7")
    assert options.given() == {}
    assert parse_request(json_row(image=BASE64, archive=True), JSON).options.archive == "yes"


REFUSED: list[tuple[dict[str, Any], dict[str, str], type[ClientError], str]] = [
    ({}, {}, EmptyBody, "contains no photo"),
    ({"image": b""}, {}, EmptyBody, "-F image=@photo.jpg"),
    ({"body": b""}, {"content-type": "application/x-www-form-urlencoded"}, EmptyBody, "-T photo.jpg"),
    ({"image": PHOTO, "colour": b"red"}, {}, UnknownOption, "'colour'"),
    ({"photo": b"\xff\xd8"}, {}, UnknownOption, "'photo'"),
    (json_row(image=BASE64, size=[1, 2]), JSON, UnknownOption, "'size'"),
    ({"image": PHOTO, "output": b"masks"}, {}, BadOption, "mask, probability, cutout"),
    ({"image": PHOTO, "output": b"\xff"}, {}, BadOption, "output is not text"),
    ({"image": PHOTO, "threshold": b"0"}, {}, BadOption, "between 0 and 1"),
    ({"image": PHOTO, "threshold": b"1.0"}, {}, BadOption, "between 0 and 1"),
    ({"image": PHOTO, "threshold": b"nan"}, {}, BadOption, "between 0 and 1"),
    ({"image": PHOTO, "background": b"red"}, {}, BadOption, "#00ff88"),
    ({"image": PHOTO, "format": b"jpeg", "output": b"cutout"}, {}, BadOption, "no transparency"),
    ({"image": PHOTO, "archive": b"maybe"}, {}, BadOption, "yes, no"),
    ({"image": PHOTO}, {"x-label": "a" * 300}, BadOption, "label"),
    ({"image": PHOTO, "output": b"mask"}, {"x-output": "json"}, ConflictingOption, "given twice"),
    ({"body": b'{"output": "mask", "output": "json"}'}, JSON, ConflictingOption, "given twice"),
    ({"image": PHOTO, REPEATED: ["output"]}, {}, ConflictingOption, "output"),
    ({"image": PHOTO, "file": PHOTO}, {}, BadRequest, "more than one photo"),
    ({"body": b'{"image": '}, JSON, BadRequest, "not valid JSON"),
    ({"body": b"[1, 2]"}, JSON, BadRequest, "must be an object"),
    ({"body": b"[" * 100_000}, JSON, BadRequest, "structure is too large"),
    (json_row(image="%%%"), JSON, BadRequest, "not valid base64"),
    (json_row(image=7), JSON, BadRequest, "base64 string"),
]


@pytest.mark.parametrize(("row", "headers", "error", "words"), REFUSED)
def test_every_fault_is_named(
    row: dict[str, Any], headers: dict[str, str], error: type[ClientError], words: str
) -> None:
    with pytest.raises(error) as raised:
        parse_request(row, headers)
    assert words in str(raised.value)


def test_the_same_value_twice_is_no_conflict() -> None:
    request = parse_request({"image": PHOTO, "output": b"json"}, {"x-output": "json"})
    assert request.options.output == "json"


def test_a_visit_is_told_from_a_lost_photo() -> None:
    assert is_visit({}, {"Host": "here", "content-length": "0"})
    assert is_visit({}, {"Host": "here"})
    assert not is_visit({}, {"Content-Length": "0"})  # an empty POST
    assert not is_visit({}, {"content-length": "4711"})
    assert not is_visit({}, {"Content-Type": "application/x-www-form-urlencoded"})
    assert not is_visit({"body": PHOTO}, {})
