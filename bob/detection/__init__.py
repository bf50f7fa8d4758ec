"""Object detection and instance segmentation: feature pyramids, engines, scores."""
