"""Which option has an effect on which output: the table by which the server and the command line refuse the others.

An option has an effect where the answer differs with it: the picture, the JSON, the facts in the headers, or what is
archived. An option that is written out with its default asks for nothing and is never refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

PICTURES = ("mask", "probability", "cutout", "overlay", "composite")
OUTPUTS = (*PICTURES, "json")
THRESHOLDED = ("mask", "cutout", "overlay", "composite", "json")


@dataclass(frozen=True)
class Effect:
    """The outputs of a photo and of a clip that an option changes; `why` it does not change the others.

    default: the value that asks for nothing; None where every value asks for something.
    """

    photo: tuple[str, ...]
    clip: tuple[str, ...]
    why: str
    default: str | None = None


EFFECTS = {
    "format": Effect(PICTURES, PICTURES, "JSON holds no picture", "png"),
    "threshold": Effect(OUTPUTS, THRESHOLDED, "a clip of probabilities has no threshold applied"),
    "background": Effect(("composite",), ("composite",), "only a composite has a background", "#ffffff"),
    "quality": Effect(OUTPUTS, OUTPUTS, "it is how closely the network looks", "fast"),
    "keep": Effect(
        OUTPUTS, THRESHOLDED, "regions are parts of a mask, which a clip of probabilities does not have", "main"
    ),
    "crop": Effect(
        OUTPUTS, (), "a clip has one frame size, and the person's bounding box changes from frame to frame", "none"
    ),
    "archive": Effect(OUTPUTS, OUTPUTS, "it is the consent to archive"),
    "label": Effect(OUTPUTS, OUTPUTS, "it is stored with archived photos only"),
    "progress": Effect((), OUTPUTS, "a photo is answered at once"),
}


def without_effect(
    options: Mapping[str, str | None], *, clip: bool, spell: Callable[[str, str], str] = "{}={}".format
) -> str | None:
    """Explain why an option has no effect on the output, and how to fix it. None if every option has an effect.

    options: by name, including `output`; None means not given. spell: formats an option and its value.
    """
    output = options["output"] or "mask"
    for name, effect in EFFECTS.items():
        value = options.get(name)
        if value is None or value == effect.default:
            continue
        taken_by = effect.clip if clip else effect.photo
        if not taken_by:
            kind = "photos" if clip else "clips"
            return f"{spell(name, value)} is for {kind}: {effect.why}. Leave it out."
        if output not in taken_by:
            use = " or ".join((spell("output", taken_by[0]), *taken_by[1:]))
            return (
                f"{spell(name, value)} has no effect with {spell('output', output)}: {effect.why}. "
                f"Use {use}, or leave it out."
            )
    return None
