"""The part that runs beside the server: uploads, and the embedded store."""
