"""The OpenAPI documents of the tiers: declared beside the code, one file for each area."""
