"""Makes smaller variants of a model's weights, so that one revision serves many machines."""
