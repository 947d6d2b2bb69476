"""What holds of every corruption on images of any size and colour, and of single families."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast.params import load
from holdfast.registry import available, find
from holdfast.scenarios.base import Context
from holdfast.scenarios.corruptions.base import Corruption
from holdfast.seeding import Noise
from holdfast.space import Box

PROJECT = Path(__file__).parents[4]
NAMES = [name for name in available("holdfast.scenarios.corruptions") if name != "composition"]
SEVERITIES = (1, 2, 3, 4, 5)
CASES = [
    ((1, 7, 5), "imagenet"), ((3, 7, 5), "cifar"), ((4, 33, 64), "cifar"), ((1, 28, 28), "cifar"), ((3, 32, 32), "imagenet"),
    ((3, 1, 1), "imagenet"),
]  # fmt: skip
BLURS = [
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "gaussian_blur",
    "glass_blur",
    "motion_blur",
    "pixelate",
    "zoom_blur",
]
every = pytest.mark.parametrize("name", NAMES)


def box(*shape):
    return Box(shape=shape, mean=(0.5,) * shape[0], std=(0.25,) * shape[0])


def smooth(n, channels, height, width):
    """Draw soft blobs, as pictures have."""
    x = Noise(4).uniform(torch.arange(n), (channels, 5, 5))
    return torch.nn.functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)


def corrupt(name, x, severity, ids=None, scale="auto", seed=0):
    scenario = find("holdfast.scenarios.corruptions", name, Corruption)(scale=scale)
    ids = torch.arange(len(x)) if ids is None else ids
    return scenario.disturb(x, ids, severity, Noise(seed).derive(severity), box(*x.shape[1:]))


def fits(name, channels):
    return name != "saturate" or channels == 3


@every
@pytest.mark.parametrize(("shape", "scale"), CASES)
def test_any_size_and_number_of_channels(name, shape, scale):
    """Images come out finite and within bounds, and each is the same alone as among others, in any order."""
    if not fits(name, shape[0]):
        pytest.skip("images of one colour have no saturation")
    x, ids = smooth(3, *shape), torch.tensor([5, -3, 8])
    for severity in (1, 3, 5):  # each way that a family goes is among them
        together = corrupt(name, x, severity, ids, scale)
        alone = torch.cat([corrupt(name, x[i : i + 1], severity, ids[i : i + 1], scale) for i in range(3)])
        assert together.shape == x.shape
        assert torch.equal(together, alone)
        assert torch.equal(together, corrupt(name, x.flip(0), severity, ids.flip(0), scale).flip(0))
        assert float(together.min()) >= 0.0
        assert float(together.max()) <= 1.0


def test_the_fashion_profile_asks_all_that_grey_images_have():
    """Its pack of corruptions holds each one that ships, but the one of colour."""
    params = load(PROJECT / "params.yaml", (PROJECT / "profiles" / "fashion.yaml",))
    asked = {path for path in params.evaluation.packs["corruptions"].scenarios if path.startswith("corruptions/")}
    assert asked == {f"corruptions/{name}" for name in NAMES} - {"corruptions/saturate"}


@every
def test_large_images_get_imagenets_parameters(name):
    """At 224 pixels, and each as it is alone."""
    x = smooth(2, 3, 224, 224)
    together = corrupt(name, x, 4)
    assert torch.equal(together[1:], corrupt(name, x[1:], 4, torch.tensor([1])))
    assert torch.equal(together, corrupt(name, x, 4, scale="imagenet"))
    assert not torch.equal(together, corrupt(name, x, 4, scale="cifar"))


@every
def test_another_seed_draws_anew(name):
    """What draws differs by seed; what does not is the same."""
    x = smooth(3, 3, 32, 32)
    same = torch.equal(corrupt(name, x, 5), corrupt(name, x, 5, seed=1))
    still = {"brightness", "contrast", "defocus_blur", "gaussian_blur", "jpeg", "pixelate", "saturate", "zoom_blur"}
    assert same == (name in still)


@pytest.mark.parametrize("name", BLURS)
@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 33, 64), (4, 32, 32)])
def test_what_moves_light_leaves_one_colour_alone(name, shape):
    """An image without contrast has nothing to blur, shuffle or bend."""
    x = torch.full((2, *shape), 0.4)
    for severity in SEVERITIES:
        assert torch.allclose(corrupt(name, x, severity, scale="cifar"), x, atol=1e-6)


@pytest.mark.parametrize("name", ["speckle_noise", "shot_noise"])
def test_black_makes_no_noise_of_its_own(name):
    """Noise that grows with the light is none in the dark."""
    x = torch.zeros((3, 3, 16, 16))
    assert torch.equal(corrupt(name, x, 5), x)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_share_of_salt_and_pepper(severity):
    """Half of what is hit is white, the rest black; all else is untouched."""
    out = corrupt("impulse_noise", torch.full((60, 1, 32, 32), 0.4), severity)
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    n = out.numel()
    for value in (0.0, 1.0):
        assert abs(float((out == value).float().mean()) - share / 2) < 4 * (share / 2 / n) ** 0.5
    assert out.unique().tolist() == pytest.approx([0.0, 0.4, 1.0])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_has_the_mean_and_variance_of_photons(severity):
    """Mean x, variance x over the photons of a full pixel."""
    full = (500, 250, 100, 75, 50)[severity - 1]
    out = corrupt("shot_noise", torch.full((60, 1, 32, 32), 0.3), severity).double()
    n = out.numel()
    assert abs(float(out.mean()) - 0.3) < 4 * (0.3 / full / n) ** 0.5
    assert float(out.var()) == pytest.approx(0.3 / full, rel=0.05)
    assert torch.allclose(out * full, (out * full).round(), atol=1e-3)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturation_is_that_of_hsv(severity):
    """Pixel by pixel as Python's own colour conversion says, grey and black included."""
    x = Noise(2).uniform(torch.arange(3), (3, 8, 8))
    x[0, :, 0, 0] = 0.0
    x[1, :, 1, 1] = 0.6
    factor, shift = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity - 1]

    def reference(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb(hue, min(max(saturation * factor + shift, 0.0), 1.0), value)

    expected = np.apply_along_axis(reference, 1, x.double().numpy())
    assert np.allclose(corrupt("saturate", x, severity), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["box"])
def test_saturation_does_not_apply_to_one_channel(build, kind):
    """It says so, and scores nothing."""
    finding = find("holdfast.scenarios.corruptions", "saturate", Corruption)().run(*build(kind), Context(seed=1))
    assert finding.score is None
    assert "three channels (RGB), found 1" in finding.unscored


def test_fog_and_snow_brighten_and_frost_whitens():
    """Weather in front of the scene is bright; more of it at severity 5 than at 1, though not at each step."""
    x = 0.5 * smooth(40, 3, 32, 32)
    for name in ("snow", "frost"):
        light, heavy = (corrupt(name, x, severity).mean() for severity in (1, 5))
        assert x.mean() < light < heavy
    for severity in SEVERITIES:
        fogged = corrupt("fog", x, severity)
        assert float(fogged.amax()) <= float(x.amax()) + 1e-6
        assert float((fogged - x).square().mean()) > 0.0


def test_water_is_turquoise_and_mud_brown():
    """On grey images: water adds green and blue beyond red, mud takes blue first."""
    x = torch.full((40, 3, 32, 32), 0.5)
    water, mud = corrupt("spatter", x, 3), corrupt("spatter", x, 5)
    assert float((water - x).min()) >= 0.0
    red, green, blue = (water - x).mean((0, 2, 3)).tolist()
    assert 0 < red < green == pytest.approx(blue)
    red, green, blue = mud.mean((0, 2, 3)).tolist()
    assert blue < green < red < 0.5
    assert 0.01 < float((mud != x).any(1).float().mean()) < 0.5


def test_no_drop_leaves_an_image_as_it_is():
    """On images of a few pixels often none falls."""
    x = smooth(200, 1, 3, 3)
    same = (corrupt("spatter", x, 1) == x).flatten(1).all(1)
    assert 0.1 < float(same.float().mean()) < 1.0


def test_an_elastic_image_is_moved_and_not_recoloured():
    """Its values stay within those it had, and severity 1 of CIFAR-10-C is affine: straight lines stay straight."""
    x = smooth(20, 3, 32, 32)
    for severity in SEVERITIES:
        out = corrupt("elastic_transform", x, severity)
        assert (out.amax((2, 3)) <= x.amax((2, 3)) + 1e-6).all()
        assert (out.amin((2, 3)) >= x.amin((2, 3)) - 1e-6).all()
    ramp = (torch.arange(32.0) / 31).expand(20, 1, 32, 32)
    bent = corrupt("elastic_transform", ramp, 1)[:, :, 12:20, 12:20]
    assert float(bent.diff(n=2, dim=3).abs().max()) < 1e-4
