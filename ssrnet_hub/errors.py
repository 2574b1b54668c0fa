"""All exceptions of the package. Messages say what happened and what to do."""

from string import Formatter

__all__ = [
    "ArchiveError",
    "ArchitectureError",
    "BoxError",
    "CalibrationError",
    "CheckError",
    "ConfigError",
    "ConversionError",
    "CorruptWeightsError",
    "DeviceError",
    "DigestError",
    "DivergenceError",
    "ExportError",
    "HubError",
    "LabelsError",
    "MissingPackageError",
    "OutputError",
    "PhotoError",
    "PhotoTooLargeError",
    "PickleOnlyError",
    "RuntimeUnavailableError",
    "SSRNetHubError",
    "UnknownModelError",
    "VideoError",
    "WeightsNotFoundError",
    "WorkerError",
    "WrongShapeError",
]


class SSRNetHubError(Exception):
    """Base class of all errors that this package raises on purpose.

    Args:
        message: What happened and what to do; a `str.format` template if ``values`` are given.
        **values: Values of the template's fields, by name.

    Attributes:
        message: The template, reduced to plain field names; the key of its translations.
        values: The fields, formatted as text.
    """

    def __init__(self, message: str = "", **values: object):
        self.message, self.values = message, dict[str, str]()
        if values:
            form, self.message, filled = Formatter(), "", ""
            for text, name, spec, conversion in form.parse(message):
                self.message, filled = self.message + text, filled + text
                if name is not None:
                    self.values[name] = format(form.convert_field(values[name], conversion), spec or "")
                    self.message, filled = f"{self.message}{{{name}}}", filled + self.values[name]
            message = filled
        super().__init__(message)


class UnknownModelError(SSRNetHubError, ValueError):
    """The name is not in the zoo, not a folder, and not of the form ``owner/repo``."""


class HubError(SSRNetHubError):
    """Files could not be downloaded from or pushed to the Hugging Face Hub."""


class WeightsNotFoundError(SSRNetHubError, FileNotFoundError):
    """A folder or repository lacks ``config.json`` or ``model.safetensors``."""


class PickleOnlyError(WeightsNotFoundError):
    """The weights exist only as a pickle, which is never loaded."""


class CorruptWeightsError(SSRNetHubError):
    """The weights file is truncated or damaged."""


class CheckError(SSRNetHubError):
    """The output of a model differs from the check tensors next to its weights."""


class DigestError(SSRNetHubError):
    """The SHA-256 of a weights file differs from the one in the zoo."""


class WrongShapeError(SSRNetHubError):
    """Tensors of the weights file do not fit the architecture in its config."""


class ConfigError(SSRNetHubError, ValueError):
    """``config.json`` is invalid."""


class ArchitectureError(ConfigError):
    """``config.json`` describes a model that is not an age model of this package."""


class DeviceError(SSRNetHubError):
    """The device is not available on this machine."""


class ConversionError(SSRNetHubError):
    """The file to convert does not have the expected format."""


class ExportError(SSRNetHubError, ValueError):
    """The model cannot be exported, or the exported file gives different results."""


class RuntimeUnavailableError(SSRNetHubError):
    """The runtime is not installed, or does not support this model."""


class CalibrationError(SSRNetHubError, ValueError):
    """There are too few faces for a calibration."""


class LabelsError(SSRNetHubError, ValueError):
    """A file of labels or boxes is invalid."""


class DivergenceError(SSRNetHubError):
    """The training loss is NaN or infinite."""


class WorkerError(SSRNetHubError):
    """The worker processes of a job cannot start."""


class OutputError(SSRNetHubError):
    """The output of a job cannot be written, or must not be replaced."""


class PhotoError(SSRNetHubError):
    """The input cannot be read as an image."""


class ArchiveError(SSRNetHubError):
    """A zip archive is damaged, too large, or contains paths outside of itself."""


class VideoError(SSRNetHubError):
    """A video cannot be read, or is too long or too large."""


class BoxError(SSRNetHubError, ValueError):
    """Invalid bounding box: not four numbers, no area, or outside the image."""


class PhotoTooLargeError(PhotoError):
    """The image has more pixels than allowed."""


class MissingPackageError(SSRNetHubError, ImportError):
    """A required package is not installed."""
