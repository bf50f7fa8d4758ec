"""One case on several devices: a process for each, equal shares of every batch."""
