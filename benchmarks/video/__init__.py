"""Clips: speed beside other ways, a photo's latency beside a clip, memory, and steadiness: see __main__.py."""
