"""The suite on one GPU: bands, throughput beside bare loops, roofline, detection steps."""
