"""What to show: from a state, a request and a moment to a page."""
