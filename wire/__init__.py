"""The contract that all tiers share. It imports none of them."""
