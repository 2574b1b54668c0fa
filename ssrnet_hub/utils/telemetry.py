"""Turn off the telemetry of our dependencies unless the environment already sets it. Import this before them."""

import os

__all__: list[str] = []

# ONNX Runtime and huggingface_hub read their variables on import; gradio_client, which serves the page's MCP tools, and
# Ray read theirs later
for _variable, _off in {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_variable, _off)
