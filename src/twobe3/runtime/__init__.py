"""Where work runs: processes, devices, progress."""
