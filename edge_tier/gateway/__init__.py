"""The prompt plane of an edge: everything that happens to a prompt before a GPU may touch it."""
