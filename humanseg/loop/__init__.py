"""From the archive to a better model: what needs both the archive's photos and a network."""
