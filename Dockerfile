# The web page, without PyTorch:
#   docker build -t ssrnet_hub .
#   docker run --rm -p 7860:7860 --read-only --tmpfs /tmp ssrnet_hub
FROM python:3.11-slim

COPY demo/requirements.txt /app/
RUN pip install --no-cache-dir -r /app/requirements.txt && useradd --create-home page

COPY ssrnet_hub /app/ssrnet_hub
COPY demo/app.py LICENSE NOTICE /app/
RUN python -m compileall -q /app

# all that is written, caches of weights included, is in /tmp
ENV HF_HOME=/tmp/huggingface GRADIO_TEMP_DIR=/tmp/gradio MPLCONFIGDIR=/tmp/matplotlib HOME=/tmp PYTHONUNBUFFERED=1 \
    GRADIO_SERVER_NAME=0.0.0.0
WORKDIR /app
USER page
EXPOSE 7860
CMD ["python", "app.py"]
