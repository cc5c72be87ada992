"""From a checkout to a running server: build the .mar, render the configuration, start, watch and stop."""
