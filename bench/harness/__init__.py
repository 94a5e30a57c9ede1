"""What the benchmarks share: servers as processes, load from wrk."""
