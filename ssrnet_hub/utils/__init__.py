"""What every room needs and that knows no face: files, untrusted values, metrics, torch's settings, telemetry."""
