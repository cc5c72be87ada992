"""What a user can ask a running server for, over HTTP and gRPC."""

from __future__ import annotations

import base64
import json
import subprocess
from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image
from pycocotools import mask as coco

from tests.running import MODEL, ROOT, Server, encoded

PHOTO = ROOT / "tests" / "photos" / "astronaut.jpg"


def picture(answer: requests.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(BytesIO(answer.content))


def ask(server: Server, photo: bytes, **options: str) -> requests.Response:
    return requests.post(server.predictions, files={"image": photo}, data=options, timeout=60)


def test_readme_line_gives_a_mask_of_the_photos_size(server: Server, tmp_path: object) -> None:
    result = subprocess.run(
        ["curl", "-sS", "-F", f"image=@{PHOTO}", server.predictions, "-o", f"{tmp_path}/mask.png"],
        check=False,
    )
    assert result.returncode == 0
    mask = Image.open(f"{tmp_path}/mask.png")
    assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (512, 512))
    assert set(np.unique(mask)) <= {0, 255}


def test_all_ways_of_sending_a_photo_give_the_same_mask(server: Server, astronaut_jpeg: bytes) -> None:
    in_json = {"image": base64.b64encode(astronaut_jpeg).decode()}
    octets = {"content-type": "application/octet-stream"}
    url = server.predictions
    answers = [
        *(requests.post(url, files={name: astronaut_jpeg}, timeout=60) for name in ("image", "data", "file")),
        requests.post(url, data=astronaut_jpeg, timeout=60),
        requests.put(url, data=astronaut_jpeg, timeout=60),  # curl -T
        requests.post(url, data=astronaut_jpeg, headers=octets, timeout=60),
        requests.post(url, data=astronaut_jpeg, headers={"content-type": "text/plain"}, timeout=60),
        requests.post(url, data=iter([astronaut_jpeg[:9000], astronaut_jpeg[9000:]]), headers=octets, timeout=60),
        requests.post(url, json=in_json, timeout=60),
        requests.post(f"{url}/1.0", data=astronaut_jpeg, timeout=60),
        requests.post(f"{server.url}/models/{MODEL}/invoke", data=astronaut_jpeg, timeout=60),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert len({answer.content for answer in answers}) == 1


def test_every_output_in_every_format(server: Server, astronaut_jpeg: bytes) -> None:
    modes = {"mask": "L", "probability": "L", "cutout": "RGBA", "overlay": "RGB", "composite": "RGB"}
    for output, mode in modes.items():
        shown = picture(ask(server, astronaut_jpeg, output=output))
        assert (shown.format, shown.mode, shown.size) == ("PNG", mode, (512, 512))
        webp = picture(ask(server, astronaut_jpeg, output=output, format="webp"))
        assert webp.format == "WEBP"
        assert np.array_equal(np.array(webp.convert(mode)), np.array(shown))
        if output != "cutout":
            assert picture(ask(server, astronaut_jpeg, output=output, format="jpeg")).format == "JPEG"


def test_cutout_holds_the_persons_own_colours_and_nothing_of_the_room(server: Server, astronaut: np.ndarray) -> None:
    cutout = np.array(picture(ask(server, encoded(astronaut, "PNG"), output="cutout")))
    shown = cutout[:, :, 3] > 0
    inside = cutout[:, :, 3] == 255
    assert np.array_equal(cutout[inside][:, :3], astronaut[inside])
    rim = shown & ~inside  # there the photo's own pixels are a mix with the room
    assert not np.array_equal(cutout[rim][:, :3], astronaut[rim])
    assert not cutout[~shown].any()


def test_composite_shows_the_background_that_was_asked_for(server: Server, astronaut_jpeg: bytes) -> None:
    mask = np.array(picture(ask(server, astronaut_jpeg, output="probability")))
    shown = np.array(picture(ask(server, astronaut_jpeg, output="composite", background="#00ff88")))
    assert (shown[mask < 20] == (0, 255, 136)).all()
    blurred = picture(ask(server, astronaut_jpeg, output="composite", background="blur"))
    assert blurred.size == (512, 512)


def test_threshold_moves_the_mask(server: Server, astronaut_jpeg: bytes) -> None:
    probability = np.array(picture(ask(server, astronaut_jpeg, output="probability")))
    for threshold in (0.05, 0.5, 0.95):
        mask = np.array(picture(ask(server, astronaut_jpeg, threshold=str(threshold))))
        assert np.array_equal(mask > 0, probability / 255 > threshold)


def test_best_quality_sees_a_small_person_better(server: Server, astronaut: np.ndarray) -> None:
    face = np.array(Image.fromarray(astronaut).resize((320, 320)))
    wide = np.full((1500, 2000, 3), 128, np.uint8)
    wide[600:920, 1000:1320] = face
    data = encoded(wide, "PNG")
    near = np.array(picture(ask(server, encoded(face, "PNG"), quality="best"))) > 0  # the same person, close up
    shares = {}
    for quality in ("fast", "best"):
        answer = ask(server, data, quality=quality)
        mask = np.array(picture(answer)) > 0
        inside = mask[600:920, 1000:1320]
        shares[quality] = (inside & near).sum() / (near.sum() + mask.sum() - (inside & near).sum())
        assert mask.shape == (1500, 2000)
    assert shares["best"] > shares["fast"]
    assert ask(server, data, quality="quick").status_code == 400


def test_crop_cuts_the_person_with_a_margin(server: Server, astronaut: np.ndarray) -> None:
    wide = np.zeros((600, 1500, 3), np.uint8)
    wide[50:562, 900:1412] = astronaut
    data = encoded(wide, "PNG")
    facts = ask(server, data, output="json", keep="largest", crop="person").json()
    answer = ask(server, data, output="cutout", keep="largest", crop="person")
    x, y, width, height = map(int, answer.headers["x-crop"].split(","))
    assert picture(answer).size == (width, height)
    assert facts["crop"] == [x, y, width, height]
    box = facts["bounding_box"]
    assert x <= box[0]
    assert y <= box[1]
    assert x + width >= box[0] + box[2]
    assert y + height >= box[1] + box[3]


def test_json_agrees_with_the_picture_and_its_headers(server: Server, astronaut_jpeg: bytes) -> None:
    image = ask(server, astronaut_jpeg)
    accept = {"accept": "application/json"}
    answer = requests.post(server.predictions, data=astronaut_jpeg, headers=accept, timeout=60)
    facts = answer.json()
    mask = np.array(picture(image)) > 0
    decoded = coco.decode(facts["mask"]).astype(bool) if mask.size else None
    assert np.array_equal(decoded, mask)
    assert facts["request_id"] == answer.headers["x-request-id"]
    assert (facts["width"], facts["height"]) == (512, 512)
    assert facts["coverage"] == pytest.approx(mask.mean(), abs=1e-5)
    assert facts["person_found"] is True
    assert 0 <= facts["confidence"] <= 1
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert facts["bounding_box"] == [
        *(columns[0], rows[0]),
        *(columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1),
    ]
    assert facts["model"]["name"] == MODEL
    assert len(facts["model"]["weights_sha256"]) == 64
    assert set(facts["milliseconds"]) == {"decode", "forward", "encode"}
    headers = image.headers
    assert (headers["x-image-width"], headers["x-image-height"]) == ("512", "512")
    assert float(headers["x-person-coverage"]) == pytest.approx(facts["coverage"])
    assert headers["x-person-found"] == "true"
    assert float(headers["x-confidence"]) == pytest.approx(facts["confidence"])
    assert headers["x-model-version"] == facts["model"]["version"] == "1.0"
    assert [part.split(";")[0] for part in headers["server-timing"].split(", ")] == [
        "decode",
        "forward",
        "encode",
    ]


def test_nobody_in_the_photo_is_a_good_answer(server: Server) -> None:
    sky = np.full((300, 400, 3), (120, 170, 220), np.uint8)
    answer = ask(server, encoded(sky, "PNG"), threshold="0.99")
    assert answer.headers["x-person-found"] == "false"
    assert not np.array(picture(answer)).any()
    facts = ask(server, encoded(sky, "PNG"), threshold="0.99", output="json", crop="person").json()
    assert (facts["person_found"], facts["bounding_box"], facts["crop"]) == (False, None, None)
    assert not coco.decode(facts["mask"]).any()


def test_query_parameters_count_where_torchserve_hands_them_over(server: Server, astronaut_jpeg: bytes) -> None:
    url = f"{server.url}/models/{MODEL}/invoke"
    answer = requests.post(f"{url}?output=cutout", data=astronaut_jpeg, timeout=60)
    assert picture(answer).mode == "RGBA"
    refused = requests.post(f"{url}?colour=red", data=astronaut_jpeg, timeout=60)
    assert (refused.status_code, refused.json()["type"]) == (400, "UnknownOption")


def test_kserve_v1_path(server: Server, astronaut_jpeg: bytes) -> None:
    body = {"instances": [{"image": base64.b64encode(astronaut_jpeg).decode()}]}
    answer = requests.post(f"{server.url}/v1/models/{MODEL}:predict", json=body, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["width"] == 512


def test_orientation_is_applied_before_the_mask(server: Server, astronaut: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: turn clockwise to view
    stored = np.ascontiguousarray(np.rot90(astronaut[:, :400]))
    upright = np.array(picture(ask(server, encoded(astronaut[:, :400], "PNG"))))
    turned = ask(server, encoded(stored, "PNG", exif=exif.tobytes()))
    assert turned.headers["x-image-width"] == "400"
    assert np.array_equal(np.array(picture(turned)), upright)


def test_fifty_megapixels_are_answered_at_their_own_size(server: Server, astronaut: np.ndarray) -> None:
    big = np.array(Image.fromarray(astronaut).resize((7000, 7000)))
    answer = ask(server, encoded(big, "JPEG", quality=80))
    assert picture(answer).size == (7000, 7000)


def test_get_shows_the_page(server: Server) -> None:
    answer = requests.get(server.predictions, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "<html" in answer.text
    assert "https://" not in answer.text.replace("https://www.w3.org", "")


def varint(number: int) -> bytes:
    """Protocol Buffers' base-128 integer."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def text_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def test_grpc_takes_photo_and_options(server: Server, astronaut_jpeg: bytes) -> None:
    """PredictionsRequest of TorchServe's inference.proto, written by hand: the wheel carries no stubs."""
    import grpc

    inputs = {b"data": astronaut_jpeg, b"output": b"json"}
    message = text_field(1, MODEL.encode()) + b"".join(
        text_field(3, text_field(1, name) + text_field(2, value)) for name, value in inputs.items()
    )
    with grpc.insecure_channel(f"127.0.0.1:{server.environment['GRPC_INFERENCE_PORT']}") as channel:
        call = channel.unary_unary("/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions")
        reply = call(message, timeout=60)
    assert reply[0] == 1 << 3 | 2
    body = reply[reply.index(b"{") :]
    assert json.loads(body)["width"] == 512
