"""From a sound file to a waveform, and from a waveform to features."""
