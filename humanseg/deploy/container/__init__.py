"""The container's process 1, health checks, JSON logs, and graceful termination in a fleet.

main.py      process 1: starts the supervisor, forwards signals, terminates gracefully
health.py    a real prediction, for Docker, Kubernetes and load balancers
logs.py      every line of output as JSON
metrics.py   the metrics for CloudWatch scaling and alarms, as log lines
instance.py  EC2: termination notices of this instance
slim.py      at build time: removes unneeded files from the image
"""
