"""Long recordings in segments: blocks of sound in, stretches of speech and silence out, nothing lost between them."""
