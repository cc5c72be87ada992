"""The archive: records are captured in the worker, shipped beside it, and read by people."""
