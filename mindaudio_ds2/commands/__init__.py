"""The commands: one module each, behind `mindaudio-ds2 COMMAND` and the verbs at the top level."""
