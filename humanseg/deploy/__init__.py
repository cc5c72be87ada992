"""From one laptop to a fleet: container, AWS, Kubernetes, monitoring, releases."""
