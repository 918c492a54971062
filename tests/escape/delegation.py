"""."""
ATTEMPTS = {}
