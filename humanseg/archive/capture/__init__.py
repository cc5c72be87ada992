"""The part that runs in the worker: record, strip metadata, spool."""
