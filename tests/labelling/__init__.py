"""Databases of labelling applications, as far as presets read them, with canaries in the other columns."""
