"""The `humanseg` command: one thin module per group; heavy dependencies are imported lazily."""
