"""The nouns that everyone shares: errors, volumes, grids, endpoints, outcomes and predictions."""
