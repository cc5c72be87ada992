"""What is no clip, or a broken one: one sentence with the cause, or what came before the break, in bounded time."""

from __future__ import annotations

import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from humanseg.segmentation.spec import Spec
from humanseg.video.backdrop import backdrop
from humanseg.video.convert import Look, Network, Outcome, Target, convert
from humanseg.video.errors import ClipError, ClipTooLarge, NotAClip, UnsupportedClip
from humanseg.video.kinds import is_clip
from humanseg.video.probe import probe
from tests.video.clips import bright, disc_frames, shown, write_clip

NETWORK = Network(Spec((64, 64)), 0.5, "test", bright, parallel=2)


def masks(source: Path, result: Path, warnings: list[str] | None = None) -> Outcome:
    warnings = [] if warnings is None else warnings
    target = Target(result, result.suffix[1:])
    return convert(probe(source), target, Look("mask", backdrop("blur")), NETWORK, warn=warnings.append)


def sound_only(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000))


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")


REFUSED: list[tuple[str, Callable[[Path], object], type[ClipError], str]] = [
    ("empty", lambda p: p.write_bytes(b""), NotAClip, "empty"),
    ("noise", lambda p: p.write_bytes(np.random.default_rng(1).bytes(5000)), NotAClip, "not in a supported format"),
    ("text", lambda p: p.write_text("a fine day " * 99), NotAClip, "not in a supported format"),
    ("a PNG", lambda p: Image.new("RGB", (9, 9)).save(p, "PNG"), NotAClip, "picture"),
    ("a JPEG", lambda p: Image.new("RGB", (9, 9)).save(p, "JPEG"), NotAClip, "picture"),
    ("sound alone", sound_only, NotAClip, "audio only"),
    ("a playlist", playlist, NotAClip, "not in a supported format"),
    (
        "a concat script",
        lambda p: p.write_text("ffconcat version 1.0\nfile /etc/passwd\n"),
        NotAClip,
        "not in a supported format",
    ),
    (
        "a header alone",
        lambda p: p.write_bytes(write_clip(p, disc_frames(3)).read_bytes()[:40]),
        NotAClip,
        "not in a supported format",
    ),
]


@pytest.mark.parametrize(("make", "kind", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_no_clip_is_refused_with_the_reason(
    tmp_path: Path, make: Callable[[Path], object], kind: type[ClipError], words: str
) -> None:
    make(tmp_path / "in.mp4")
    with pytest.raises(kind, match=words):
        masks(tmp_path / "in.mp4", tmp_path / "out.webm")
    assert not (tmp_path / "out.webm").exists()


def test_an_encrypted_clip_is_refused(tmp_path: Path) -> None:
    locked = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "ab" * 16, "encryption_kid": "cd" * 16}
    source = write_clip(tmp_path / "in.mp4", disc_frames(5), container_options=locked)
    with pytest.raises(UnsupportedClip, match="encrypted"):
        masks(source, tmp_path / "out.webm")


def test_more_pixels_than_allowed(tmp_path: Path) -> None:
    with pytest.raises(ClipTooLarge, match="96x64"):
        probe(write_clip(tmp_path / "in.mp4", disc_frames(2)), max_pixels=96 * 64 - 1)


def test_no_frames(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(1))
    data = source.read_bytes()
    at = data.index(b"mdat")
    source.write_bytes(
        data[: at + 4] + bytes(len(data[at + 4 : data.index(b"moov") - 4])) + data[data.index(b"moov") - 4 :]
    )
    with pytest.raises(ClipError):
        masks(source, tmp_path / "out.webm")


@pytest.mark.parametrize("name", ["in.mp4", "in.webm", "in.avi"])
def test_a_clip_that_breaks_off_gives_what_came_before(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(40)]
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    first = {"movflags": "+faststart"} if name.endswith("mp4") else {}
    options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {"bf": "0", "crf": "10"}
    source = write_clip(tmp_path / name, noise, codec=codec, codec_options=options, container_options=first)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    warnings: list[str] = []
    outcome = masks(source, tmp_path / "out.mp4", warnings)
    assert 10 < outcome.frames < 36
    assert outcome.broken is not None
    assert "damaged after frame" in warnings[-1]
    assert len(shown(tmp_path / "out.mp4")) == outcome.frames


def test_one_by_one_pixel(tmp_path: Path) -> None:
    dot = [np.full((1, 1, 3), 255, np.uint8)] * 3
    source = write_clip(tmp_path / "in.avi", dot, codec="ffv1", pixels="yuv444p", codec_options={})
    for name in ("out.webm", "out.mp4", "out.mov"):
        assert masks(source, tmp_path / name).frames == 3


@pytest.mark.slow
def test_an_8k_clip(tmp_path: Path) -> None:
    grey = [np.full((4320, 7680, 3), 90, np.uint8)] * 2
    source = write_clip(tmp_path / "in.mp4", grey, codec="mjpeg", pixels="yuvj420p", codec_options={})
    assert masks(source, tmp_path / "out.mp4").frames == 2


def test_240_frames_a_second(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(60), rate=240)
    assert masks(source, tmp_path / "out.webm").frames == 60
    times = [time for time, _ in shown(tmp_path / "out.webm")]
    assert times == sorted(set(times))
    assert float(times[-1]) == pytest.approx(59 / 240, abs=0.001)


def test_an_hour_with_one_frame_and_one_at_its_end(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(2), times=[0, 3600], base=Fraction(1))
    assert masks(source, tmp_path / "out.mp4").frames == 2
    assert [time for time, _ in shown(tmp_path / "out.mp4")] == [0, 3600]


def test_the_name_does_not_matter_the_content_does(tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "in.webm", disc_frames(3), codec="libvpx-vp9", codec_options={"deadline": "realtime"}
    )
    assert masks(clip.rename(tmp_path / "in.mp4"), tmp_path / "out.mp4").frames == 3


def test_a_gif_with_transparency(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in disc_frames(4)]
    pictures[0].save(tmp_path / "in.gif", save_all=True, append_images=pictures[1:], duration=[40, 80, 400, 40])
    masks(tmp_path / "in.gif", tmp_path / "out.mp4")
    assert [round(1000 * time) for time, _ in shown(tmp_path / "out.mp4")] == [0, 40, 120, 520]


def test_a_clip_that_changes_its_size(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{side}.ts", disc_frames(4, (side, 64))).read_bytes() for side in (96, 128)]
    (tmp_path / "in.ts").write_bytes(b"".join(parts))
    assert masks(tmp_path / "in.ts", tmp_path / "out.mp4").frames == 8
    assert {picture.shape for _, picture in shown(tmp_path / "out.mp4")} == {(64, 96, 3)}


def test_clips_are_told_from_photos_by_their_first_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mov", "a.avi", "a.ts", "a.mkv", "a.flv"):
        assert is_clip(write_clip(tmp_path / name, disc_frames(2)).read_bytes()[:512]), name
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP"):
        Image.new("RGB", (16, 16)).save(tmp_path / "a.picture", kind)
        assert not is_clip((tmp_path / "a.picture").read_bytes()[:512]), kind
    assert not is_clip(b"")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    vp9 = {"codec": "libvpx-vp9", "codec_options": {"deadline": "realtime", "cpu-used": "8"}}
    clips = [
        write_clip(folder / "a.mp4", disc_frames(6, (64, 48)), sound="aac"),
        write_clip(folder / "a.webm", disc_frames(6, (64, 48)), sound="libopus", **vp9),  # type: ignore[arg-type]
        write_clip(folder / "a.avi", disc_frames(6, (64, 48)), codec="mpeg4", codec_options={}),
    ]
    return [path.read_bytes() for path in clips]


@pytest.mark.slow
@hypothesis.settings(max_examples=120, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=st.data())
def test_a_damaged_clip_ends_in_a_result_or_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[bytes], data: st.DataObject
) -> None:
    damaged = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(len(damaged) // 3, len(damaged))) :]
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "in.mp4").write_bytes(damaged)
    try:
        info = probe(folder / "in.mp4", max_pixels=1_000_000)
        outcome = masks(info.path, folder / "out.webm")
    except ClipError as error:
        assert str(error).endswith(".") or "--force" in str(error)
        return
    assert 1 <= outcome.frames <= 12
