"""HTTP: hot routes on bare ASGI, the others on Starlette, group commit, metrics."""
