"""The read API over stored spans: `create_app(services)` in app.py; shared parameters in asked.py."""
