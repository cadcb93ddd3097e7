"""Data in, Plotly figure out (one plain dict each, cheap to build): no Streamlit, no clock, no network."""
