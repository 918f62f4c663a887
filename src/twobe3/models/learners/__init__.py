"""Statistical learners on a table of features."""
