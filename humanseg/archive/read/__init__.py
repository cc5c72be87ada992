"""For people: list, show, export, erase."""
