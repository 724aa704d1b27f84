"""Curves, event files and pages, made from run folders alone."""
