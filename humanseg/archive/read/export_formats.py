"""Export formats besides the plain folder, created from the complete folder.

coco          TO/img/, TO/instances.json (all), TO/annotations/instances_train.json and
instances_val.json: one
              annotation of the category person for each photo, as uncompressed run-lengths
webdataset    TO/train-000000.tar, TO/val-000000.tar, ...: NAME.jpg, NAME.mask.png, NAME.json, 1000 photos
each label-studio  TO/img/, TO/tasks.json: one task a photo with the mask as a brush prediction to
correct. Serve TO
              with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=TO
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

FORMATS = ("folder", "webdataset", "coco", "label-studio")
SHARD = 1000
Row = dict[str, Any]


def pack(fmt: str, to: Path, parts: Path, rows: list[Row]) -> None:
    """Creates `fmt` in the folder `to` from `parts`, which is then deleted (not for "folder")."""
    if fmt == "folder":
        return
    if fmt == "coco":
        _coco(to, parts, rows)
    elif fmt == "webdataset":
        _webdataset(to, parts, rows)
    else:
        _label_studio(to, parts, rows)
    shutil.rmtree(parts)


def _coco(to: Path, parts: Path, rows: list[Row]) -> None:
    images, annotations = [], []
    for number, row in enumerate(rows, 1):
        mask = _read_mask(parts, row)  # bool [H, W]
        images.append({"id": number, "file_name": row["photo"], "width": mask.shape[1], "height": mask.shape[0]})
        if mask.any():
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": int(mask.sum()),
                    "bbox": _box(mask),
                    "segmentation": {"size": list(mask.shape), "counts": _column_runs(mask)},
                }
            )
    (to / "annotations").mkdir(exist_ok=True)
    for path, split in (
        (to / "instances.json", None),
        (to / "annotations" / "instances_train.json", "train"),
        (to / "annotations" / "instances_val.json", "val"),
    ):
        ids = {number for number, row in enumerate(rows, 1) if split in (None, row["split"])}
        path.write_text(
            json.dumps(
                {
                    "images": [image for image in images if image["id"] in ids],
                    "annotations": [annotation for annotation in annotations if annotation["image_id"] in ids],
                    "categories": [{"id": 1, "name": "person"}],
                }
            )
        )


def _read_mask(parts: Path, row: Row) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(parts / "mask" / f"{row['name']}.png") as image:
        return np.asarray(image.convert("L")) > 127


def _box(mask: Any) -> list[int]:
    """[x, y, width, height] in pixels."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    ]


def _column_runs(mask: Any) -> list[int]:
    """COCO's uncompressed run-lengths: column by column, starting with zeros.

    >>> import numpy as np
    >>> _column_runs(np.array([[0, 1], [0, 1]]))
    [2, 2]
    """
    import numpy as np

    flat = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def _webdataset(to: Path, parts: Path, rows: list[Row]) -> None:
    for old in (*to.glob("train-*.tar"), *to.glob("val-*.tar")):
        old.unlink()
    for split in ("train", "val"):
        chosen = [row for row in rows if row["split"] == split]
        for start in range(0, len(chosen), SHARD):
            path = to / f"{split}-{start // SHARD:06d}.tar"
            with tarfile.open(path, "w") as tar:
                for row in chosen[start : start + SHARD]:
                    photo = parts / "img" / row["photo"]
                    _add(tar, f"{row['name']}{photo.suffix}", photo.read_bytes())
                    mask = parts / "mask" / f"{row['name']}.png"
                    _add(tar, f"{row['name']}.mask.png", mask.read_bytes())
                    _add(tar, f"{row['name']}.json", json.dumps(row).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # time and owner stay 0 for reproducible bytes
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _label_studio(to: Path, parts: Path, rows: list[Row]) -> None:
    tasks = []
    for row in rows:
        mask = _read_mask(parts, row)
        height, width = mask.shape
        brush = {
            "type": "brushlabels",
            "from_name": "mask",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": brush_rle(mask), "brushlabels": ["person"]},
        }
        tasks.append(
            {
                "data": {
                    "image": f"/data/local-files/?d=img/{row['photo']}",
                    "request_id": row["request_ids"][0],
                },
                "predictions": [
                    {
                        "model_version": f"{row['model_name']} {row['model_version']}",
                        "score": row["confidence"],
                        "result": [brush] if mask.any() else [],
                    }
                ],
                "meta": {"name": row["name"], "split": row["split"], "chosen": row["chosen"]},
            }
        )
    (to / "tasks.json").write_text(json.dumps(tasks))
    (to / "labeling_config.xml").write_text(
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        '  <BrushLabels name="mask" toName="image">\n    <Label value="person" background="#0a84ff"/>\n'
        "  </BrushLabels>\n</View>\n"
    )


def brush_rle(mask: Any) -> list[int]:
    """A mask (bool [H, W]) as Label Studio's brush run-lengths: the bytes of a bit stream over RGBA pixels.

    The stream (thi.ng/rle-pack): 32 bits number of values, 5 bits word size - 1, four times 4 bits run
    size - 1, then runs: 1 bit (1 = one value repeated), 2 bits which run size, the run's length - 1, one
    value of 8 bits. Only repeated runs are written here, each mask pixel being four equal bytes.
    """
    import numpy as np

    flat = np.asarray(mask, bool).ravel()
    sizes = (3, 4, 8, 16)
    bits = [format(flat.size * 4, "032b"), format(7, "05b"), *(format(size - 1, "04b") for size in sizes)]
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate(([0], edges))
    lengths = np.diff(np.concatenate((starts, [flat.size]))) * 4
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if flat[start] else "00000000"
        while length:
            part = min(length, 1 << 16)
            which = next(index for index, size in enumerate(sizes) if part <= 1 << size)
            bits.append(f"1{which:02b}{part - 1:0{sizes[which]}b}{value}")
            length -= part
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))
