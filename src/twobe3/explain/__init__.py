"""Where a risk comes from: maps in patient space, contributions of features and members, and checks of the maps."""
