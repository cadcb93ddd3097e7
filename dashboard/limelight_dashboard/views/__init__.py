"""One module a page: read the filters, ask the client, build figures, draw. No SQL, no Plotly objects."""
