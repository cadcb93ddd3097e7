"""The collector: OTLP in, ClickHouse below, an API and alerts on top. Start reading at `pipeline.py`."""
