"""Human segmentation: the core, its archive, client, command line, training, server and deployment."""

__version__ = "1.0.0"
