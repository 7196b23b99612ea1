"""One export, in the order of its steps."""
