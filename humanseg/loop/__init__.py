"""The retraining loop: code that needs both the archive and a network."""
