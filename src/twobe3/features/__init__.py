"""What is computed from a scan without looking at any outcome; nothing here is fitted."""
