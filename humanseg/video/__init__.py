"""Video: segments clips with temporally smoothed masks, into a clip or a folder of PNGs.

`convert.convert` is the pipeline. The command line passes it a function that sends each frame to a server, the
handler one that uses the worker's network; everything else is the same code.

Needs the extra `video`. PyAV provides containers and codecs.
"""
