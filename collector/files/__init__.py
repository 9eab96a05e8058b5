"""The data folder on disk: who may read what is in it."""
