"""Publishes, signs, stores and announces revisions."""
