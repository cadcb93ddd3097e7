"""The dashboard: Streamlit pages over the collector's HTTP API. `serve` runs it; it never opens the database."""

from limelight_dashboard.server import serve

__all__ = ["serve"]
