"""All settings: one frozen dataclass per stage, TOML in and out.

A setting has a place (`section.key`), a default, and a meaning in the docstring of its section. An unknown or
ill-typed key fails with the nearest known name.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .checks import SettingsError, nearest


def _in(default: Any, low: float, high: float = float("inf"), multiple: int = 0, some: bool = False) -> Any:
    """Return a field whose value, or each of whose values, lies within low…high.

    It is one of the multiples of `multiple`, if that is not 0, and a list is not empty if there have to be `some`.
    """
    return field(default=default, metadata={"range": (low, high), "multiple": multiple, "some": some})


def _of(*choices: str) -> Any:
    """Return a field whose value is one of `choices`; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices})


@dataclass(frozen=True)
class ColorSettings:
    """Module 1.

    white_point : "D65", "D50", or "x, y" (CIE 1931 chromaticity of the white).
    """

    white_point: str = "D65"


@dataclass(frozen=True)
class FeatureSettings:
    """Module 2: what a regressor sees of a grid point.

    working_size : px, long side of the lightness image on which features are taken.
    step : px at working size between grid points.
    bin_sizes : px, even; the widths of one SIFT spatial bin, one descriptor each.
    smoothing : σ in px of the blur before SIFT.
    blur_scales : σ in px; the lightness blurred by each is a feature (0: the lightness itself).
    contrast_scales : σ in px; the local standard deviation of lightness at each is a feature.
    energy, position : whether the gradient energy of each SIFT window, and the place in the photo, are features.
    words : number of visual words; 0 leaves the scene model out.
    words_from : photos; a smaller set has no scene model, since it would learn its few scenes by heart.
    word_bin_size, word_neighbours : px, even; the bin size of the words' SIFT; over how many words one place is spread.
    pooled_radii, pooled_components : px; half width of the squares in which words are pooled; components kept.
    scene_components, landmarks : components of the photo's words by which scenes are told apart; kernel landmarks.
    layout_components : components of both together that the layout of a scene's chroma is predicted from.
    word_classes : kinds of words that the layout tells apart.
    """

    working_size: int = _in(384, 16, 4096)
    step: int = _in(8, 1, 64)
    bin_sizes: tuple[int, ...] = _in((8,), 2, 64, multiple=2, some=True)
    smoothing: float = _in(1.0, 0, 10)
    blur_scales: tuple[float, ...] = _in((0.0, 4.0, 8.0, 16.0, 32.0), 0, 256)
    contrast_scales: tuple[float, ...] = _in((2.0, 4.0, 8.0, 16.0), 0.5, 256)
    energy: bool = True
    position: bool = True
    words: int = _in(384, 0, 4096)
    words_from: int = _in(16, 1)
    word_bin_size: int = _in(6, 2, 64, multiple=2)
    word_neighbours: int = _in(4, 1, 64)
    pooled_radii: tuple[int, ...] = _in((24, 72), 1, 2048, some=True)
    pooled_components: int = _in(96, 1, 512)
    scene_components: int = _in(80, 1, 512)
    landmarks: int = _in(256, 1, 256)
    layout_components: int = _in(96, 1, 256)
    word_classes: int = _in(12, 1, 64)


@dataclass(frozen=True)
class TrainingSettings:
    """How samples are drawn and the regressors are taught.

    samples_per_photo : grid points taken from each copy of a photo, at least, as far as `sample_budget` allows.
    copies : augmented copies of each photo (mirrored, cropped, rescaled, tone-shifted) beside the photo itself.
    sample_budget : samples at most, over all photos.
    epochs : passes over the samples; a small set is passed more often, until `samples_seen` is reached.
    samples_seen : samples at least, counted over all epochs.
    batch_size, learning_rate, weight_decay, input_noise : of the optimiser (Adam); the decay is a factor on the rate.
    held_out : share of the photos that is kept out of training, for early stopping and calibration.
    patience : epochs without a better result on photos held out after which training stops.
    folds : parts for the out-of-fold layout.
    seed : of everything that is drawn.
    """

    samples_per_photo: int = _in(120, 1, 100000)
    copies: int = _in(3, 0, 100)
    sample_budget: int = _in(2_000_000, 1)
    epochs: int = _in(3, 1, 1000)
    samples_seen: int = _in(60_000, 0)
    batch_size: int = _in(1024, 1, 65536)
    learning_rate: float = _in(1e-3, 1e-08, 1)
    weight_decay: float = _in(0.5, 0, 100)
    input_noise: float = _in(0.1, 0, 10)
    held_out: float = _in(0.1, 0, 0.9)
    patience: int = _in(3, 1, 1000)
    folds: int = _in(5, 2, 100)
    seed: int = _in(0, 0, 4294967295)


@dataclass(frozen=True)
class RegressorSettings:
    """Module 3: the shape is fixed (10 × 128 sigmoid units); how it starts is not.

    spread : standard deviation of each unit's pre-activation at the start.
    average : decay of the running average of the weights, per batch; 0 keeps the last weights.
    """

    spread: float = _in(1.6, 0.001, 100)
    average: float = _in(0.999, 0, 0.9999)


@dataclass(frozen=True)
class RefinementSettings:
    """Module 4.

    method : "guided" or "as_published".
    mirrored : whether what is refined is the mean of the predictions for the photo and its mirror image.
    radius, smoothness : px at working size, and Lab units; window and edge threshold of the guided upsampling.
    vivid : factor on the predicted chroma; 0 means: chosen when the model is calibrated.
    vivid_cost : dB that the chosen vividness may cost against the factor of the least error.
    keep : "grey" or "lightness"; what of each pixel is unchanged.
    """

    method: str = _of("guided", "as_published")
    mirrored: bool = False
    radius: int = _in(16, 0, 512)
    smoothness: float = _in(4.0, 0.001, 1000)
    vivid: float = _in(0.0, 0, 10)
    vivid_cost: float = _in(0.004, 0, 10)
    keep: str = _of("grey", "lightness")


@dataclass(frozen=True)
class CnnSettings:
    """A CNN colorizer instead of the classical modules 2 and 3, and how it is taught.

    network : which of the table in `cnn/networks.py`; "none" is the classical way.
    embedding : an ONNX file of the classifier that koalarization looks through; "" is EfficientNet-lite0.
    size : px, a multiple of 8; side of the squares that it learns from, and of the photo that it is given if that is
        `whole`.
    whole : whether photos are squeezed into the square, whatever their shape, instead of cut to it.
    zoom, rotation, shift, flip : augmentation; greatest factor (and its inverse), degrees, share of the side, mirrored.
    optimizer, learning_rate, weight_decay, batch_size : of the optimiser, as torch has them. On a CPU many steps of
        few photos teach more in the same time. Steps are small since an optimiser such as Adam moves all of a unit's
        inputs, 4,608 of them, by as much at once, and no batch normalisation undoes that.
    device : where it is trained; "auto" is a GPU if there is one. It colorizes on the processor.
    average : decay of the running average of the weights, per step, at most: it goes over the last ninth of the steps.
        0 keeps the last weights.
    epochs, minutes : passes over the photos, and minutes of training, at most.
    check_every : steps after which it is scored on photos held out.
    patience : checks without a better score after which training stops.
    """

    network: str = _of("none", "fusion", "koalarization", "autoencoder", "unet", "classify")
    embedding: str = ""
    size: int = _in(224, 32, 1024, multiple=8)
    whole: bool = False
    zoom: float = _in(1.25, 1, 4)
    rotation: float = _in(0.0, 0, 180)
    shift: float = _in(0.0, 0, 0.5)
    flip: bool = True
    optimizer: str = _of("adam", "adadelta", "adamax", "adamw", "rmsprop", "sgd")
    learning_rate: float = _in(5e-5, 1e-8, 10)
    weight_decay: float = _in(0.0, 0, 100)
    batch_size: int = _in(2, 1, 1024)
    device: str = _of("auto", "cpu", "cuda")
    average: float = _in(0.9999, 0, 0.99999)
    epochs: int = _in(100, 1, 100000)
    minutes: float = _in(60.0, 0)
    check_every: int = _in(400, 1)
    patience: int = _in(20, 1)


@dataclass(frozen=True)
class Settings:
    """All sections; see each."""

    color: ColorSettings = field(default_factory=ColorSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    regressor: RegressorSettings = field(default_factory=RegressorSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    cnn: CnnSettings = field(default_factory=CnnSettings)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Return settings from nested values, defaults where nothing is said.

        Raises
        ------
        SettingsError
            An unknown section or key (with the nearest known name), a wrong type, or a value out of range.
        """
        return cls().replaced(values)

    def replaced(self, values: dict[str, Any], source: str = "settings") -> Settings:
        """Return these settings with some `values` ({section: {key: value}}) in place; raises as `from_dict`."""
        sections = {}
        for name, keys in values.items():
            if name not in SECTIONS:
                raise SettingsError(
                    f"{source}: unknown section '{name}'; known are {', '.join(SECTIONS)}{nearest(name, SECTIONS)}"
                )
            if not isinstance(keys, dict):
                raise SettingsError(f"{source}: '{name}' is a section; wanted is {name}.key = value")
            sections[name] = _section(getattr(self, name), keys, f"{source}: {name}")
        return dataclasses.replace(self, **sections)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return all values as plain nested dicts; tuples become lists, as in TOML and JSON."""
        return {
            name: {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(section).items()}
            for name, section in ((name, getattr(self, name)) for name in SECTIONS)
        }


SECTIONS = tuple(f.name for f in dataclasses.fields(Settings))


def load_settings(
    pipeline: str | Path = "default", overrides: tuple[str, ...] | list[str] = (), base: Settings | None = None
) -> Settings:
    """Read a settings file.

    Parameters
    ----------
    pipeline : path or str
        A TOML file, or the name of one in the package: "default", "best", "published", "smoke", or a CNN's.
    overrides : sequence of str
        Single values, each as ``section.key=value`` with the value written as in TOML (bare words may go unquoted).
    base : Settings, optional
        What holds where the file says nothing, instead of the defaults.

    Raises
    ------
    SettingsError
        No such file, no TOML, or anything that `Settings.from_dict` refuses.
    """
    path = _pipeline_path(pipeline)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: not a readable TOML settings file ({error})") from None
    settings = (base or Settings()).replaced(values, str(path))
    for override in overrides:
        settings = settings.replaced(_parse_override(override), "--set")
    return settings


def packaged_pipelines() -> dict[str, Path]:
    """Return the settings files that come with the package, by name."""
    installed = Path(str(resources.files(__package__))) / "pipelines"
    folder = installed if installed.is_dir() else installed.parent.parent / "pipelines"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _pipeline_path(pipeline: str | Path) -> Path:
    path = Path(pipeline)
    if path.is_file():
        return path
    packaged = packaged_pipelines()
    if path.stem in packaged and path.suffix in ("", ".toml"):
        return packaged[path.stem]
    hint = nearest(path.stem, packaged)
    raise SettingsError(f"no settings file '{pipeline}'; the package has {', '.join(packaged)}{hint}")


def _parse_override(override: str) -> dict[str, Any]:
    place, equals, text = override.partition("=")
    section, dot, key = place.strip().partition(".")
    if not (equals and dot and section and key):
        raise SettingsError(f"--set {override}: wanted is section.key=value, e.g. training.epochs=8")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return {section: {key: value}}


def _section(current: Any, keys: dict[str, Any], source: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(current)}
    types = get_type_hints(type(current))
    values = {}
    for key, value in keys.items():
        if key not in fields:
            raise SettingsError(f"{source}.{key} is unknown; known are {', '.join(fields)}{nearest(key, fields)}")
        values[key] = _typed(value, types[key], f"{source}.{key}")
        _check_range(values[key], fields[key].metadata, f"{source}.{key}")
    return dataclasses.replace(current, **values)


def _typed(value: Any, wanted: Any, name: str) -> Any:
    if get_args(wanted):
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{name} is {value!r}; wanted is a list of {get_args(wanted)[0].__name__}")
        return tuple(_typed(item, get_args(wanted)[0], name) for item in value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise SettingsError(f"{name} is {value!r}; wanted is {wanted.__name__}")
    return value


def _check_range(value: Any, metadata: Any, name: str) -> None:
    if "choices" in metadata and value not in metadata["choices"]:
        choices = metadata["choices"]
        raise SettingsError(f"{name} is {value!r}; wanted is one of {', '.join(choices)}{nearest(value, choices)}")
    if "range" in metadata:
        (low, high), multiple = metadata["range"], metadata["multiple"]
        if value == () and metadata["some"]:
            raise SettingsError(f"{name} is empty; wanted is one value at least")
        for item in value if isinstance(value, tuple) else (value,):
            if not low <= item <= high:
                raise SettingsError(f"{name} has {item!r}; wanted is {low:g}…{high:g}")
            if multiple and item % multiple:
                raise SettingsError(f"{name} has {item!r}; wanted is a multiple of {multiple}")
