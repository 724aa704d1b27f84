"""Live speech: samples in, events out while they are being said."""
