"""Find candidates: a file for each kind of source, and the pool that they fill."""
