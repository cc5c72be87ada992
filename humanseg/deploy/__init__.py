"""Deployment: container, AWS, Kubernetes, monitoring, releases."""
