"""Repeatable comparisons: ./benchmarks/run.sh writes RESULTS.md; NOTES.md says what was found and why."""
