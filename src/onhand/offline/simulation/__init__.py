"""A flash sale against the real server, and what the usual stack would have shown meanwhile.

`plan` draws what happens, from a seed; `load` makes it happen over HTTP, in a process of its own;
`score` checks every answer against what was acknowledged; `caches` is the usual stack beside it.
`run` is the whole of it; `report` and `figure` show it.
"""
