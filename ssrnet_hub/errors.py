"""What can go wrong, said to the person who meets it: what happened and what to do."""

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
    """Base of every error that this package raises on purpose."""


class UnknownModelError(SSRNetHubError, ValueError):
    """The name is neither of the zoo nor a folder nor of the form ``owner/repo``."""


class HubError(SSRNetHubError):
    """The Hugging Face Hub did not hand out the files: unreachable, refused, or no such repository or revision."""


class WeightsNotFoundError(SSRNetHubError, FileNotFoundError):
    """A folder or repository lacks ``config.json`` or ``model.safetensors``."""


class PickleOnlyError(WeightsNotFoundError):
    """The weights are there only as a pickle, which is never loaded."""


class CorruptWeightsError(SSRNetHubError):
    """The weights file is truncated or damaged."""


class CheckError(SSRNetHubError):
    """A model does not answer as the check tensors beside its weights say."""


class DigestError(SSRNetHubError):
    """The weights file that the Hub handed out is not the one that its name in the zoo stands for."""


class WrongShapeError(SSRNetHubError):
    """Tensors of the weights file do not fit the architecture that its config names."""


class ConfigError(SSRNetHubError, ValueError):
    """``config.json`` is not what this package or timm understands."""


class ArchitectureError(ConfigError):
    """``config.json`` is of a model that is not an age model of this package."""


class DeviceError(SSRNetHubError):
    """There is no such device on this machine."""


class ConversionError(SSRNetHubError):
    """The file to convert is not what the converter was told it is."""


class ExportError(SSRNetHubError, ValueError):
    """The model cannot be written in this form, or does not answer there as it should."""


class RuntimeUnavailableError(SSRNetHubError):
    """What was asked to compute the answers is not installed, or cannot do that for this model."""


class CalibrationError(SSRNetHubError, ValueError):
    """There are too few faces to calibrate weights on."""


class LabelsError(SSRNetHubError, ValueError):
    """A file of labels or boxes lacks what it must have."""


class DivergenceError(SSRNetHubError):
    """Training left the numbers: its error is infinite or none."""


class WorkerError(SSRNetHubError):
    """The processes of a job do not start."""


class OutputError(SSRNetHubError):
    """A job's output cannot be written, or is not to be."""


class PhotoError(SSRNetHubError):
    """The input cannot be read as a picture."""


class ArchiveError(SSRNetHubError):
    """A zip is damaged, too large, or has names that climb out of it."""


class VideoError(SSRNetHubError):
    """A film cannot be read, or is too long or too large."""


class BoxError(SSRNetHubError, ValueError):
    """A box around a face is none: not four numbers, without area, or outside of the picture."""


class PhotoTooLargeError(PhotoError):
    """The picture has more pixels than allowed."""


class MissingPackageError(SSRNetHubError, ImportError):
    """Something was asked for that needs a package which is not installed here."""
