"""Clients that answer requests: a local checkpoint, an API, or any object with a plain `generate`."""
