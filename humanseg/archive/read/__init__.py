"""The part for people: list, show, export, erase."""
