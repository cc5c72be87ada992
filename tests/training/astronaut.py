"""Where the astronaut is in tests/photos/astronaut.jpg: drawn by hand for this project, about 2 pixels exact.

The helmet that she holds is neither right nor wrong (data sets differ on things held), so it is left out.
"""

from __future__ import annotations

import cv2
import numpy as np

SCALE = 512 / 1092  # the corners were read off the photo enlarged to 1092 pixels

PERSON = (
    *((392, 316), (330, 322), (290, 345), (262, 385), (247, 400), (243, 430), (247, 455), (215, 470)),
    *((175, 500), (140, 540), (110, 580), (90, 630), (72, 680), (60, 740), (48, 800), (40, 850), (45, 900)),
    *((50, 950), (52, 1000), (60, 1040), (85, 1075), (95, 1092), (700, 1092), (700, 775), (735, 755)),
    *((775, 745), (775, 710), (765, 660), (750, 610), (735, 580), (715, 550), (690, 525), (650, 500)),
    *((640, 460), (620, 430), (590, 400), (560, 378), (543, 365), (550, 340), (565, 310), (572, 290)),
    *((590, 288), (605, 275), (625, 250), (638, 220), (643, 185), (640, 150), (632, 110), (615, 80)),
    *((585, 55), (550, 42), (510, 34), (470, 38), (435, 52), (410, 75), (375, 90), (345, 110), (330, 145)),
    *((328, 185), (335, 220), (350, 245), (368, 255), (372, 275), (388, 280), (390, 300)),
)
HELMET = (
    *((580, 1092), (585, 1000), (598, 920), (620, 850), (650, 800), (700, 765), (760, 745), (850, 730)),
    *((920, 742), (980, 787), (1030, 855), (1062, 965), (1092, 990), (1092, 1092)),
)


def reference() -> tuple[np.ndarray, np.ndarray]:
    """(person, counted): masks bool `[512, 512]`; only pixels in `counted` are judged."""
    person, helmet = np.zeros((512, 512), np.uint8), np.zeros((512, 512), np.uint8)
    for corners, mask in ((PERSON, person), (HELMET, helmet)):
        cv2.fillPoly(mask, [np.rint(np.array(corners) * SCALE).astype(np.int32)], 1)
    return person > 0, helmet == 0
