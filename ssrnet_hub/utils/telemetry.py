"""Telemetry of our dependencies, off unless the environment already says otherwise. Imported before any of them."""

import os

__all__: list[str] = []

# ONNX Runtime starts its own at its import, and huggingface_hub reads its variable there; gradio_client, which serves
# the page's MCP tools, and Ray ask later
for _variable, _off in {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_variable, _off)
