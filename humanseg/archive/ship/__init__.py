"""What runs beside the server: uploads, and the embedded store."""
