"""A page in the browser: a scan is uploaded, predicted in a process of its own, and its results are shown."""
