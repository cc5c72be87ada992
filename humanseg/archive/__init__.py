"""The record and its life: captured in the worker, shipped beside it, read by people."""
