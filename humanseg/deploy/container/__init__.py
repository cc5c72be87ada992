"""What runs in the container besides the server itself: process 1, health, JSON logs, and the way out of a fleet.

main.py      process 1: starts the supervisor, forwards signals, lets go in order
health.py    a real prediction, asked by Docker, Kubernetes and load balancers
logs.py      every line of output as JSON
metrics.py   the few numbers CloudWatch scales and alarms on, as log lines
instance.py  EC2: is this instance about to go?
slim.py      at build time: what the image leaves out
"""
