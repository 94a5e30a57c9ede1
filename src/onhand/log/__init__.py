"""The log: one ordered, durable sequence of records. Everything else is derived from it."""
