"""Text tables (rich), overlay and curve pictures (matplotlib) and one self-contained HTML page (jinja2)."""
