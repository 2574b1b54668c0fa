"""From a photo to the age of every face: detector, estimator, runtimes, calibration, tracking, plots."""
