"""Photographs -> weights -> measured model."""
