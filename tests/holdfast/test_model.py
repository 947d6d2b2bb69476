"""Models are bytes with a digest: verified before they are read, and never able to carry code."""

import pickle

import pytest
import torch
from torch import nn

from holdfast.errors import ArtefactError, ModelError
from holdfast.factory import factory_digest
from holdfast.model import (
    ModelSpec,
    Target,
    check_network,
    load_model,
    save_model,
)
from holdfast.networks import TableEncoder
from holdfast.pyfunc import _load_pyfunc
from holdfast.space import Box, Feature, Table

SPEC = ModelSpec(
    factory="holdfast.networks:mlp",
    settings={"width": 8},
    space=Table(
        features=(
            Feature(name="age", kind="number", median=40, iqr=10, knots=(20, 40, 60)),
            Feature(name="town", kind="category", categories=("a", "b")),
        )
    ),
    classes=("no", "yes"),
)
X = torch.tensor([[30.0, 0.0], [55.0, 1.0], [float("nan"), 2.0], [41.0, float("nan")]])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


def test_a_model_comes_back_bit_for_bit(folder):
    """Saved and loaded under its digest, a model gives the same logits, asked in batches of the same size."""
    module = SPEC.build(seed=1)
    digest = save_model(folder, module, SPEC)
    assert torch.equal(load_model(folder, digest).logits(X), Target(module.eval(), SPEC, digest).logits(X))


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json"])
def test_one_changed_byte_is_refused_before_it_is_read(folder, name, monkeypatch):
    """Tampered weights or a tampered description never reach a parser."""
    digest = save_model(folder, SPEC.build(seed=1), SPEC)
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    monkeypatch.setattr("holdfast.model.ModelSpec.model_validate_json", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(ArtefactError, match="changed after registration"):
        load_model(folder, digest)


def test_a_planted_pickle_is_never_opened(folder, tmp_path):
    """Files beside the two that a model is made of are not looked at, and weights that are a pickle do not load."""
    marker = tmp_path / "opened"

    class Bomb:
        def __reduce__(self):
            return (marker.write_text, ("",))

    digest = save_model(folder, SPEC.build(seed=1), SPEC)
    for name in ("model.pkl", "python_model.pkl", "state.pt"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    load_model(folder, digest)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="weights that fit the description"):
        load_model(folder, None)
    assert not marker.exists()


def test_weights_of_another_network_are_refused(folder):
    """A description that does not fit the weights is an error with a remedy, not a half-loaded model."""
    save_model(folder, SPEC.model_copy(update={"settings": {"width": 9}}).build(seed=1), SPEC)
    with pytest.raises(ModelError, match="weights that fit the description"):
        load_model(folder, None)


@pytest.mark.parametrize("factory", ["nowhere.at_all:build", "holdfast.networks:nothing", "holdfast.networks:__doc__"])
def test_a_factory_that_is_none_is_named(factory):
    """A factory that cannot be imported, is missing or is no function is refused with its name."""
    with pytest.raises(ModelError, match=factory):
        SPEC.model_copy(update={"factory": factory}).build(seed=0)


def test_a_module_that_is_not_there_has_no_line():
    """The lines of Python's own import, and of ours, are none that anyone could mend."""
    with pytest.raises(ModelError) as refused:
        SPEC.model_copy(update={"factory": "nowhere_at_all:build"}).build(seed=0)
    assert refused.value.found == "ModuleNotFoundError: No module named 'nowhere_at_all'"


def test_a_module_that_lacks_another_is_told_with_its_own_line(tmp_path, monkeypatch):
    """The line is that of the import in it."""
    (tmp_path / "lacking_module.py").write_text("import math\nimport nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"nowhere_at_all.*\(lacking_module\.py, line 2\)"):
        SPEC.model_copy(update={"factory": "lacking_module:build"}).build(seed=0)


def test_initial_weights_depend_on_the_seed_alone():
    """Building draws from its seed and leaves the global generator where it was."""
    state = torch.get_rng_state()
    first, second, other = (SPEC.build(seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_what_a_row_gets_depends_on_that_row_alone():
    """Micro-batches are padded to one shape: any split and order gives the same bits, and passes are counted."""
    target = Target(SPEC.build(seed=1), SPEC, "d")
    x = torch.randn(700, 2, generator=torch.Generator().manual_seed(0)) * 30 + 40
    x[:, 1] = (x[:, 1] > 40).float()
    whole = target.logits(x)
    assert target.forwards == 700
    assert torch.equal(whole, torch.cat([target.logits(part) for part in x.split(130)]))
    assert torch.equal(whole.flip(0), target.logits(x.flip(0)))


def test_embeddings_are_what_the_last_layer_reads():
    """The last layer applied to them gives the logits, whatever the batch; a model without such a layer is named."""
    target, x = Target(SPEC.build(seed=1), SPEC, "digest"), X.repeat(100, 1)
    *_, last = (each for each in target.module.modules() if isinstance(each, nn.Linear))
    embedded = target.embed(x)
    assert torch.allclose(nn.functional.linear(embedded, last.weight, last.bias), target.logits(x), atol=1e-6)
    assert torch.equal(target.embed(x[:7]), embedded[:7])
    assert target.embed(x[:0]).shape == (0, 0)
    bare = nn.Sequential(nn.Flatten(), nn.ReLU())
    with pytest.raises(ModelError, match="no linear layer"):
        Target(bare, SPEC, "digest").embed(x)


def test_value_and_gradient_agree_with_autograd():
    """Values, logits and input gradients are those of the plain network; missing values have gradient 0."""
    module = SPEC.build(seed=1).eval()
    target = Target(module, SPEC, "d")
    x = X.clone().requires_grad_()
    module(x)[:, 1].sum().backward()
    values, logits, gradient = target.value_and_gradient(X, lambda z, _: z[:, 1])
    assert torch.equal(logits[:, 1], values)
    assert torch.allclose(gradient, x.grad)
    assert gradient[2, 0] == 0
    assert (target.forwards, target.backwards) == (4, 4)


def test_the_jacobian_is_every_classes_gradient_for_one_forward():
    """Each class's slice is what the gradient of that logit alone is; passes are counted."""
    target = Target(SPEC.build(seed=1).eval(), SPEC, "d")
    logits, jacobian = target.jacobian(X)
    assert (target.forwards, target.backwards) == (4, 8)
    for k in range(2):
        value, again, gradient = target.value_and_gradient(X, lambda z, _, k=k: z[:, k])
        assert torch.allclose(jacobian[:, k], gradient)
        assert torch.equal(again, logits)
        assert torch.equal(value, logits[:, k])


def test_a_row_without_a_finite_output_is_never_right():
    """NaN logits predict -1, which is no class."""

    class Broken(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 2), torch.nan)

    assert Target(Broken(), SPEC, "d").predict(X).tolist() == [-1] * 4


def test_the_piecewise_encoding_follows_its_definition():
    """Between knots it rises from 0 to 1, outside it is clamped, and its slope is one over the piece."""
    encoder = TableEncoder(SPEC.space)
    rows = torch.tensor([[10.0, 0], [30.0, 0], [50.0, 0], [99.0, 0]])
    assert encoder(rows)[:, 2:4].tolist() == [[0.0, 0.0], [0.5, 0.0], [1.0, 0.5], [1.0, 1.0]]
    assert encoder(rows).shape[1] == encoder.width


def test_names_not_seen_and_missing_values_have_codes_of_their_own():
    """A category of k names is one of k + 2."""
    codes = TableEncoder(SPEC.space)(X)[:, -4:]
    assert codes.argmax(1).tolist() == [0, 1, 2, 3]
    assert codes.sum(1).tolist() == [1.0] * 4


def test_an_edited_module_is_not_the_one_trained_with(folder, tmp_path, monkeypatch):
    """The weights' digest says nothing of the code that runs them: edited code, or an edited helper, is refused."""
    monkeypatch.syspath_prepend(tmp_path)
    net, helper = tmp_path / "users_net_b.py", tmp_path / "users_helper_b.py"
    helper.write_text("WIDTH = 4\n")
    net.write_text(
        "import users_helper_b\nfrom torch import nn\n"
        "def build(shape, classes):\n    return nn.Linear(shape[0], classes)\n"
    )
    factory = "users_net_b:build"
    spec = SPEC.model_copy(update={"factory": factory, "settings": {}, "code": factory_digest(factory)})
    digest = save_model(folder, spec.build(seed=0), spec)
    assert load_model(folder, digest).spec == spec
    helper.write_text("WIDTH = 5\n")
    with pytest.raises(ModelError, match="as trained with"):
        load_model(folder, digest)
    helper.write_text("WIDTH = 4\n")
    net.write_text(net.read_text() + "# edited\n")
    with pytest.raises(ModelError, match="as trained with") as refused:
        load_model(folder, digest)
    assert not isinstance(refused.value, ArtefactError)  # nothing that is fetched anew would mend it


def logged(root, spec, seed):
    """Save a model as MLflow lays it out: the data below, the description with the digest above."""
    digest = save_model(root / "data" / "model", spec.build(seed=seed), spec)
    (root / "MLmodel").write_text(f"metadata:\n  holdfast.digest: {digest}\n")
    return root / "data" / "model"


def test_mlflow_loads_tables_and_images(tmp_path):
    """The loader hook gives one probability for each class, and the prediction by name."""
    table = _load_pyfunc(str(logged(tmp_path / "table", SPEC, 1))).predict({"age": [30, None], "town": ["a", "zz"]})
    assert list(table) == ["no", "yes", "prediction"]
    assert table[["no", "yes"]].sum(1).to_numpy() == pytest.approx(1.0)
    box = ModelSpec(
        factory="holdfast.networks:cnn", settings={"width": 2, "hidden": 4},
        space=Box(shape=(1, 8, 8), mean=(0.5,), std=(0.2,)), classes=("x", "y", "z"),
    )  # fmt: skip
    data = str(logged(tmp_path / "box", box, 0))
    assert len(_load_pyfunc(data).predict(torch.zeros(3, 1, 8, 8).numpy())) == 3


@pytest.mark.parametrize("changed", ["the weights", "the description"])
def test_mlflow_refuses_bytes_that_were_not_logged(tmp_path, changed):
    """One flipped bit of a weight, or another order of classes, is not loaded through MLflow either."""
    folder = logged(tmp_path, SPEC, 1)
    if changed == "the weights":
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (folder / "model.safetensors").write_bytes(weights)
    else:
        spec = SPEC.model_copy(update={"classes": SPEC.classes[::-1]})
        (folder / "spec.json").write_text(spec.model_dump_json())
    with pytest.raises(ModelError, match="as recorded"):
        _load_pyfunc(str(folder))


@pytest.mark.parametrize(
    "description", [None, "", "metadata: {}", "metadata:\n  holdfast.digest: 12", "metadata: [", "\0", "metadata:"]
)
def test_mlflow_loads_nothing_without_a_logged_digest(tmp_path, description):
    """Bytes that nobody vouches for are refused, not believed."""
    folder = logged(tmp_path, SPEC, 1)
    (tmp_path / "MLmodel").unlink()
    if description is not None:
        (tmp_path / "MLmodel").write_text(description)
    with pytest.raises(ModelError, match=r"no holdfast\.digest"):
        _load_pyfunc(str(folder))


class Stubborn(nn.Module):
    """A network of a user's that breaks in one way."""

    def __init__(self, how):
        super().__init__()
        self.how, self.inner = how, nn.LazyLinear(2) if how == "lazy" else nn.Linear(SPEC_WIDTH, 2)
        self.norm = nn.LazyBatchNorm1d(affine=False) if how == "lazy buffers" else nn.Identity()
        self.own = torch.Generator().manual_seed(1)

    def forward(self, x):
        answers = {
            "one too many": lambda: torch.cat([self.inner(x), x[:, :1]], 1),
            "another width": lambda: nn.functional.linear(x[:, :2], self.inner.weight),
            "one batch size": lambda: self.inner(x).view(64, -1),
            "a tuple": lambda: (self.inner(x),),
            "classes": lambda: self.inner(x).argmax(1),
            "only in training": lambda: self.inner(x) if self.training else undefined(x),  # noqa: F821  what it is about
            "not finite": lambda: self.inner(x) / 0,
            "drawn": lambda: nn.functional.dropout(self.inner(x)),
            "drawn elsewhere": lambda: self.inner(x) + torch.rand(1, generator=self.own),
            "lazy": lambda: self.inner(x),
            "lazy buffers": lambda: self.inner(self.norm(x)),
        }
        return answers[self.how]()


SPEC_WIDTH = TableEncoder(SPEC.space).width


def stubborn(shape, classes, how):
    return Stubborn(how)


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("one too many", r"found \(3, 3\) of torch.float32; expected logits of shape \(3, 2\): .*no, yes"),
        ("another width", r"RuntimeError: mat1 and mat2 shapes"),
        ("one batch size", r"RuntimeError: shape '\[64, -1\]'.*\(test_model.py, line \d+\)"),
        ("a tuple", "found tuple"),
        ("classes", r"found \(3,\) of torch.int64"),
        ("only in training", r"NameError: name 'undefined' is not defined \(test_model.py, line \d+\)"),
        ("not finite", "not finite, with fresh weights"),
        ("drawn", r"answers that are drawn at random after eval\(\); expected dropout"),
        ("drawn elsewhere", r"other answers to the same rows after eval\(\)"),
        ("lazy", "layers without sizes until rows have come"),
        ("lazy buffers", "layers without sizes until rows have come"),
    ],
)
def test_a_network_that_gives_no_logits_is_refused_before_it_trains(how, found):
    """Whatever a user's forward does wrong on three rows is a ModelError that names the place, and draws no number."""
    spec = SPEC.model_copy(update={"factory": f"{__name__}:stubborn", "settings": {"how": how}})
    state = torch.get_rng_state()
    with pytest.raises(ModelError, match=found):
        check_network(spec, X[:3])
    check_network(SPEC, X[:3])
    assert torch.equal(state, torch.get_rng_state())
