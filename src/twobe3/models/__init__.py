"""Models under one protocol; importing this package registers them all."""
