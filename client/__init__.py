"""The Python library for a server: inference and management over HTTP."""
