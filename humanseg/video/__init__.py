"""Clips: frames in order through the network, masks that do not flicker, and a clip, or a folder of PNGs, out.

`convert.convert` is the way of a clip. The command line hands it a function that asks a server for each frame,
the handler one that asks the network in the worker: everything else is the same code.

Needs the extra `video`. PyAV does containers and codecs.
"""
