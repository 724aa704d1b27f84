"""Corpora: manifests, and getting the original archives."""
