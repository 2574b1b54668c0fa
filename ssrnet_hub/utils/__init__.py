"""Utilities shared by all subpackages: files, untrusted values, metrics, PyTorch settings, telemetry."""
