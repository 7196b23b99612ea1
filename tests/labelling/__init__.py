"""Databases of labelling applications, as far as presets and examples read them; every other column has a canary."""
