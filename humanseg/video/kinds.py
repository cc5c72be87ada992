"""Distinguishes clips from photos by their first bytes, never by their name."""

from __future__ import annotations

STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis", b"hevc", b"hevx", b"crx ")
ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof")
STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska and WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and -2 video
)
PHOTO_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
LONGEST_START = 512  # bytes that `is_clip` looks at

CONTAINERS = ("webm", "mp4", "mov")  # formats of a clip's result
LINES = "jsonl"  # of output=json: a JSON document for each frame, each on a line
CONTENT_TYPE = {
    "webm": "video/webm",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    LINES: "application/x-ndjson",
}


def result_format(output: str, wanted: str | None) -> str:
    """The format of a clip's result: `wanted`, or the default of an output."""
    if output == "json":
        return LINES
    return wanted or ("webm" if output == "cutout" else "mp4")


def is_clip(start: bytes) -> bool:
    """Whether a file that begins with `start` is a video. An animated GIF or WebP counts as a photo."""
    if start[4:8] in ATOMS:
        return not (start[4:8] == b"ftyp" and start[8:12] in STILL_BRANDS)
    if start[:4] == b"RIFF":
        return start[8:12] == b"AVI "
    transport_stream = start[:1] == b"\x47" and start[188:189] == b"\x47" and start[376:377] == b"\x47"
    return start.startswith(STARTS) or transport_stream


def is_photo(start: bytes) -> bool:
    """Whether a file that begins with `start` looks like a photo that is read: JPEG, PNG, WebP, HEIC, ..."""
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(PHOTO_STARTS) or webp or (start[4:8] == b"ftyp" and not is_clip(start))
