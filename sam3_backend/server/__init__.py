"""The HTTP server: Flask app, gunicorn entry, metrics."""
