"""What the other packages share: settings, files, processes and the names that everybody must agree on."""
