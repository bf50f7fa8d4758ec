"""How a protocol is run: one runner per protocol, named as its declaration in ``bob.protocols``."""
