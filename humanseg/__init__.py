"""Human segmentation: the core, its archive, client, command line, training, server and deployment."""
