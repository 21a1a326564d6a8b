"""What makes the site: see `hooks`, which mkdocs calls."""
