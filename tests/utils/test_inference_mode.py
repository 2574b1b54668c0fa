"""The ages are the same whatever the program around the estimator has set in PyTorch."""

from contextlib import contextmanager

import pytest
import timm
import torch

import ssrnet_hub
from ssrnet_hub import AgeEstimator
from ssrnet_hub.hub.check_tensors import write_check
from ssrnet_hub.utils.inference_mode import inference

BOX = (70, 61, 159, 175)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SETTINGS = {
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "float16 by default": lambda: default_dtype(torch.float16),
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "meta by default": lambda: default_device("meta"),
    "under torch.device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "anomaly detection": torch.autograd.detect_anomaly,
    "deterministic": deterministic,
}


def look(estimator, photo):
    """The ages and boxes of a photo with one face, as each way to ask has them."""
    faces = [*estimator(photo), *estimator(photo, boxes=[BOX]), *estimator.crops([photo], align=True)]
    assert len(faces) == 3
    return [value for face in faces for value in (face.age, *face.box)]


@pytest.fixture(scope="module")
def photo(astronaut):
    return astronaut.crop((110, 0, 370, 260))


@pytest.fixture(scope="module")
def expected(photo):
    # in another order of its sums a crop may round a few of its pixels otherwise
    return pytest.approx(look(AgeEstimator(), photo), abs=0.01)


@pytest.fixture(scope="module", params=["onnx", "torch", "eager"])
def before(request):
    """An estimator that was made before anything was set."""
    return request.param, AgeEstimator(runtime=request.param)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_the_same_ages_whatever_is_set(setting, before, photo, expected):
    runtime, before = before
    with setting():
        within = AgeEstimator(runtime=runtime)
        assert look(before, photo) == expected
        assert look(within, photo) == expected
    assert look(within, photo) == expected


def test_with_more_threads(estimator, photo, expected):
    with threads(2):
        assert look(estimator, photo) == expected


def test_the_age_of_the_astronaut(estimator, astronaut):
    with SETTINGS["bfloat16 by default"](), SETTINGS["autocast to bfloat16"]():
        (face,) = estimator(astronaut)
    assert face.age == pytest.approx(34.27, abs=0.01)
    assert face.box == pytest.approx((180.7, 60.5, 268.7, 173.5), abs=0.1)


@pytest.mark.parametrize("weights", ["ssrnet_wide.utkface_fairface_aaf", "ssrnet_gender.fairface"])
@pytest.mark.parametrize("setting", ["bfloat16 by default", "meta by default", "autocast to bfloat16"])
def test_weights_are_loaded_as_they_are(weights, setting, tmp_path):
    plain = ssrnet_hub.from_pretrained(weights)
    folder = ssrnet_hub.save_pretrained(plain, tmp_path)
    write_check(plain, folder / "check.safetensors")
    with SETTINGS[setting]():
        model = ssrnet_hub.from_pretrained(folder, verify=True)
        assert write_check(model, tmp_path / "again").read_bytes() == (folder / "check.safetensors").read_bytes()
    for name, value in plain.state_dict().items():
        loaded = model.state_dict()[name]
        assert loaded.device.type == "cpu" and loaded.dtype == value.dtype and torch.equal(loaded, value)
    # and nothing of it gets into what is saved
    again = ssrnet_hub.save_pretrained(model, tmp_path / "again-folder")
    assert (again / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_precision_that_is_asked_for():
    with SETTINGS["bfloat16 by default"]():
        assert next(ssrnet_hub.from_pretrained(dtype=torch.float64).parameters()).dtype == torch.float64


@pytest.mark.filterwarnings("ignore:Nothing says")
def test_a_model_that_timm_made_in_double_precision(photo, expected):
    with SETTINGS["float64 by default"]():
        model = timm.create_model("ssrnet_wide", pretrained=True)
        assert next(model.parameters()).dtype == torch.float64
        assert look(AgeEstimator(model), photo) == expected


def test_the_setting_outlasts_the_answer(estimator, astronaut):
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
        estimator(astronaut)
        assert torch.is_autocast_enabled("cpu") and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        with inference():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
