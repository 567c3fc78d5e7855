"""Images of a category: found, read, and split by a protocol."""
