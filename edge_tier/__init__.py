"""The regional tier: an artifact cache and a gateway for prompts, two planes that share nothing."""
