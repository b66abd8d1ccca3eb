"""What may be stored, and by which rules: projects, artifacts, uploads."""
