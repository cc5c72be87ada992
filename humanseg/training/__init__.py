"""Training and evaluation: photographs -> weights -> measured model."""
