"""The charts of the page: plain plotly.js JSON, each with its figures as a table."""
