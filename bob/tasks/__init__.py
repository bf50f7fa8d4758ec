"""How a protocol is run: one runner per protocol, in a module of the protocol's name.

A runner is ``run(job) -> TaskOutput``. Modules that begin with an underscore hold what several
runners do.
"""
