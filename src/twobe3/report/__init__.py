"""One offline HTML page from the artefacts of a study."""
