"""Neural networks: inputs, architectures, heads and training."""
