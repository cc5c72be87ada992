"""Reads masks from the files of annotation tools. Pure readers: no archive, no server.

drawn.py          the readers' result: `Reading`, of `DrawnMask`, `Refusal` and `Skipped`
label_studio.py   Label Studio's JSON and JSON-MIN: brush, bitmask, polygon
brush.py          Label Studio's brush run-lengths
coco.py           COCO JSON of any tool: polygons and both run-length forms
png.py            one PNG per mask, as people and tools save them
settle.py         merges several annotators' masks of a photo
home.py           selects the reader of a file or folder
"""
