"""The files of one result: tables, plots, panels, detections."""
