"""Runs a server from a checkout: build the .mar, render the configuration, start, supervise and stop."""
