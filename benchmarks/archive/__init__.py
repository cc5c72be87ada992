"""What the archive costs, whether it keeps up, and how it answers over a million records: see __main__.py."""
