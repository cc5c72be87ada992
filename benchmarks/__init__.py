"""Repeatable comparisons: ./benchmarks/run.sh writes RESULTS.md; NOTES.md has the method and the findings."""
