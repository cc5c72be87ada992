"""Prometheus, Alertmanager and Grafana for a server or a fleet."""
