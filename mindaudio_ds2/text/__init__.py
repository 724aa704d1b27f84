"""From a transcript to label ids, and back."""
