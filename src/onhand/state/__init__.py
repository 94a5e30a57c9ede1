"""The state: what the log adds up to, as of one offset."""
