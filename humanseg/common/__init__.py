"""Shared by the other packages: settings, files, processes and common names."""
