"""docs/openapi.yaml is valid, and says what a real server does: each of its examples is sent to one."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import pytest
import requests
import yaml
from openapi_spec_validator import validate

from handler.options import OPTION_NAMES
from tests.running import MODEL, ROOT, Server, encoded

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
PHOTO = encoded(np.full((40, 30, 3), 120, np.uint8), "PNG")


def fits(value: Any, schema: dict[str, Any]) -> None:
    """Raises where `value` is not what a schema of the document says."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def examples() -> Iterator[Any]:
    for path, operations in DOCUMENT["paths"].items():
        for content_type, content in operations.get("post", {}).get("requestBody", {}).get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                yield pytest.param(path, content_type, example["value"], id=f"{path} {content_type} {name}")


def test_the_document_is_valid_and_has_every_option() -> None:
    validate(DOCUMENT)
    assert set(DOCUMENT["components"]["schemas"]["Options"]["properties"]) == set(OPTION_NAMES)
    headers = {
        parameter["name"]
        for parameter in DOCUMENT["components"]["parameters"].values()
        if parameter["in"] == "header"
    }
    assert headers == {f"x-{name}" for name in OPTION_NAMES} | {"Content-Encoding"}


@pytest.mark.parametrize(("path", "content_type", "value"), list(examples()))
def test_every_example_is_answered_as_the_document_says(
    server: Server, path: str, content_type: str, value: dict[str, Any]
) -> None:
    operation = DOCUMENT["paths"][path]["post"]
    if content_type == "multipart/form-data":
        fields = {key: example for key, example in value.items() if key != "image"}
        sent: dict[str, Any] = {"files": {"image": PHOTO}, "data": fields}
    else:
        fits(value, operation["requestBody"]["content"][content_type]["schema"])
        sent = {"json": value}
    url = server.url + path.replace("{model}", MODEL).replace("{version}", "1.0")
    answer = requests.post(url, **sent, timeout=60)
    assert answer.status_code == 200, answer.text
    output = operation["responses"]["200"]
    kind = answer.headers["content-type"].split(";")[0]
    assert kind in output["content"]
    if kind == "application/json":
        fits(answer.json(), output["content"][kind]["schema"])
    for name in output.get("headers", {}):
        # JSON says most of it in its body; a crop is there where one was asked for and a person found.
        assert name in answer.headers or kind == "application/json" or name == "x-crop"


def test_a_get_gives_the_page_the_facts_or_the_document(server: Server) -> None:
    page = requests.get(server.predictions, headers={"Accept": "text/html,*/*"}, timeout=10)
    assert page.headers["content-type"].startswith("text/html")
    assert 'id="api"' in page.text
    facts = requests.get(server.predictions, headers={"Accept": "application/json"}, timeout=10)
    fits(facts.json(), {"$ref": "#/components/schemas/Facts"})
    assert (facts.json()["name"], facts.json()["network"]["architecture"]) == (MODEL, "efficient_unet")
    document = requests.get(server.predictions, headers={"Accept": "application/yaml"}, timeout=10)
    assert document.content == (ROOT / "docs" / "openapi.yaml").read_bytes()


def test_errors_are_as_the_document_says(server: Server) -> None:
    for sent in ({"data": b"no photo"}, {"data": b"%PDF-1"}, {"files": {"image": PHOTO}, "data": {"output": "x"}}):
        answer = requests.post(server.predictions, **sent, timeout=60)  # type: ignore[arg-type]
        assert str(answer.status_code) in DOCUMENT["paths"]["/predictions/{model}"]["post"]["responses"]
        fits(answer.json(), {"$ref": "#/components/schemas/Error"})


def test_several_instances_are_answered_in_order_each_by_itself(server: Server) -> None:
    sizes = [(20, 30), (50, 40), (10, 70)]
    photos = [encoded(np.full((*size, 3), 120, np.uint8), "PNG") for size in sizes]
    instances: list[Any] = [{"image": base64.urlsafe_b64encode(photo).decode().rstrip("=")} for photo in photos]
    instances[1:1] = [{"image": base64.b64encode(b"%PDF-1").decode()}, {"image": "?"}, 3]
    answer = requests.post(f"{server.url}/v1/models/{MODEL}:predict", json={"instances": instances}, timeout=60)
    assert answer.status_code == 200
    predictions = answer.json()["predictions"]
    assert [prediction.get("height") for prediction in predictions] == [20, None, None, None, 50, 10]
    assert [prediction.get("code") for prediction in predictions] == [None, 415, 400, 400, None, None]
    assert len({prediction["request_id"] for prediction in predictions}) == 6


@pytest.mark.slow
def test_the_instances_of_a_request_have_together_as_many_pixels_as_one_photo_may(server: Server) -> None:
    large = base64.b64encode(encoded(np.full((6000, 5000, 3), 120, np.uint8), "PNG")).decode()
    small = base64.b64encode(PHOTO).decode()
    instances = [{"image": large}, {"image": large}, {"image": small}]
    answer = requests.post(f"{server.url}/v1/models/{MODEL}:predict", json={"instances": instances}, timeout=60)
    assert [prediction.get("code") for prediction in answer.json()["predictions"]] == [None, 413, None]


def test_a_gzipped_body_is_the_same_photo(server: Server) -> None:
    plain = requests.post(server.predictions, data=PHOTO, timeout=60)
    packed = gzip.compress(PHOTO)
    answer = requests.post(server.predictions, data=packed, headers={"Content-Encoding": "gzip"}, timeout=60)
    assert (answer.status_code, answer.content) == (200, plain.content)


def test_the_management_api_says_which_network_runs(server: Server) -> None:
    answer = requests.get(f"{server.management_url}/models/{MODEL}?customized=true", timeout=30)
    assert "efficient_unet" in answer.text
    # Its header can come from anybody, a key or not: it shows no more than the table of models does.
    sent = requests.post(server.predictions, headers={"describe": "True"}, timeout=30).json()
    assert set(sent) == {"name", "version", "network"}
    assert "weights_sha256" not in sent["network"]
