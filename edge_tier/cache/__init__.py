"""The artifact plane of an edge: caches verified chunks between origin and workers."""
