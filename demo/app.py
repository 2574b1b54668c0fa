"""The age of every face in a photo, as a Hugging Face Space: python app.py."""

from ssrnet_hub.webapp import launch

if __name__ == "__main__":
    launch()
