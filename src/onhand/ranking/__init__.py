"""Score candidates."""
