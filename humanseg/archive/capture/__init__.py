"""What runs in the worker: record, strip, spool."""
