"""The `humanseg` command: one thin file per group; heavy parts are imported only when called."""
