"""Public PET collections: what there is, a selection of it, its download, and its tables."""
