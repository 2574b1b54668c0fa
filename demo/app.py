"""The age of every face in a photo, as a Hugging Face Space: python demo/app.py."""

import gradio as gr

from ssrnet_hub import AgeEstimator, SSRNetHubError
from ssrnet_hub.photos import load_photo
from ssrnet_hub.plots import annotate, plot_breakdown

MAX_PIXELS = 40_000_000
COLUMNS = ["face", "age", "how the network got there"]

estimator = AgeEstimator(max_pixels=MAX_PIXELS)


def predict(photo: str):
    """The faces in a photo and their ages.

    Args:
        photo: A picture file of at most 40 megapixels.

    Returns:
        The photo with boxes and ages, a row a face, and the breakdown of the largest face's age.
    """
    if photo is None:
        raise gr.Error("Upload a photo first.", print_exception=False)
    try:
        image = load_photo(photo, MAX_PIXELS)
        faces = estimator(image)
    except SSRNetHubError as e:
        raise gr.Error(str(e).replace(str(photo), "The photo"), print_exception=False) from e
    if not faces:
        gr.Info("No face was found in this photo.")
        return image, [], None
    rows = [[number, round(face.age, 1), face.explain()] for number, face in enumerate(faces, start=1)]
    return annotate(image, faces), rows, plot_breakdown(faces[0])


with gr.Blocks(title="ssrnet_hub", analytics_enabled=False) as demo:
    gr.Markdown(
        "# How old does a face look?\n"
        "SSR-Net tells it with 40,531 parameters, in three stages from coarse to fine. An estimate, off by years: no "
        "proof of age, and nothing to decide about a person by. Photos are not kept."
    )
    with gr.Row():
        photo = gr.Image(type="filepath", label="photo", sources=["upload", "clipboard", "webcam"])
        annotated = gr.Image(label="faces", interactive=False, format="png")
    table = gr.Dataframe(headers=COLUMNS, interactive=False, label="ages")
    breakdown = gr.Plot(label="the largest face, stage by stage")
    photo.upload(predict, photo, [annotated, table, breakdown], api_name="predict")

if __name__ == "__main__":
    demo.launch()
