"""Masks that people drew, out of the files that labelling tools save. Pure readers: no archive, no server.

drawn.py          what every reader gives: `Reading`, of `DrawnMask`, `Refusal` and `Skipped`
label_studio.py   Label Studio's JSON and JSON-MIN: brush, bitmask, polygon
brush.py          Label Studio's brush run-lengths
coco.py           COCO JSON of any tool: polygons and both run-length forms
png.py            one PNG a mask, as people and tools save them
settle.py         several annotators to one mask a photo
home.py           which reader a file or folder is for
"""
