"""Files made to mislead: an error that says what to do, or a sound result.

Nothing in them is executed, and what they claim gets no memory.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cifar_files import python2_pickle
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from task_samples import NAMES, Small, part, small_network
from torch import nn

from lq_utils.artifact import (
    FIELD,
    ArtifactError,
    _digest,
    load_quantized,
    save_quantized,
)
from lq_utils.cache import canonical_json
from lq_utils.inference import to_input
from lq_utils.lockstep import quantize
from lq_utils.models import MODELS, register_model
from lq_utils.parameters import ParameterError, check_values, read_parameters
from lq_utils.plan_rows import PlanError
from lq_utils.plans import Plan
from lq_utils.profiles import read_profile
from lq_utils.safe_pickle import DataError, read_dictionary
from lq_utils.weights import WeightsError, load_weights, save_weights

NOTEBOOKS = Path(__file__).parent / "notebooks"
MOST_REAL = 200  # outputs that a network is given memory for
quick = settings(max_examples=40, derandomize=True)


class Watched(Small):
    """Refuses to be built so large: what a file claims must not get here."""

    def __init__(self, outputs: int) -> None:
        super().__init__(outputs)
        real = self.fc.weight.device.type != "meta"
        assert not (real and outputs > MOST_REAL), "memory for a claim"


@pytest.fixture(scope="module", autouse=True)
def watched_model() -> Iterator[None]:
    register_model("small", replace=True)(Watched)
    yield
    del MODELS._entries["small"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def stored(folder: Path, bits: int) -> Path:
    path = folder / f"intact{bits}.lq"
    if not path.exists():
        network = small_network()
        plan = Plan.uniform(network, bits, solver="rtn", scale="max")
        x = to_input(part("train", 1).images)
        save_quantized(path, quantize(network, plan, x), "small", len(NAMES))
    return path


@st.composite
def damaged(draw: st.DrawFn, content: bytes, other: bytes) -> bytes:
    """Bytes flipped, cut out, put in, doubled; or the two files spliced."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        end = place + draw(st.sampled_from([1, 2, 8, 64, 10**6]))
        extreme = st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"\x7f" * 4])
        fresh = draw(st.binary(max_size=8) | extreme)
        content = draw(
            st.sampled_from(
                [
                    content[:place],
                    content[:place] + content[end:],
                    content[:place] + fresh + content[place + len(fresh) :],
                    content[:place] + fresh + content[place:],
                    content[:end] + content[place:],
                    content[:place] + other[place:],
                ]
            )
        )
    return content


def state(network: nn.Module) -> list[bytes]:
    return [x.numpy().tobytes() for x in network.state_dict().values()]


# -- artifacts and weights ---------------------------------------------------


@quick
@given(st.data())
def test_damaged_artifacts(folder: Path, data: Any) -> None:
    paths = [stored(folder, bits) for bits in (3, 5)]
    first, second = (path.read_bytes() for path in paths)
    path = folder / "damaged.lq"
    path.write_bytes(data.draw(damaged(first, second) | st.binary()))
    try:
        found = state(load_quantized(path))
    except ArtifactError as error:
        assert str(path) in str(error)
    else:
        assert found in [state(load_quantized(intact)) for intact in paths]


def rewritten(source: Path, target: Path, change: dict[str, Any]) -> None:
    """Other header fields, with a checksum that is right."""
    tensors = load_file(source)
    with safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()[FIELD]) | change
    del header["sha256"]
    header["sha256"] = _digest(tensors, header)
    save_file(tensors, target, {FIELD: canonical_json(header)})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "small", "conv1", "layer,bits\nfc,3\n"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "fc", "lq"]), inner)
    ),
    max_leaves=6,
)
FIELDS = "model outputs fold biases layout plan alphabets grids activations"


@quick
@given(st.sampled_from(FIELDS.split()), JSON)
def test_headers_that_claim_anything(
    folder: Path, field: str, value: Any
) -> None:
    path = folder / "claims.lq"
    rewritten(stored(folder, 3), path, {field: value})
    try:
        network = load_quantized(path)
    except ArtifactError:
        return
    x = to_input(part("test", 1).images)
    assert network(x).shape == (len(NAMES), len(NAMES))


@pytest.mark.parametrize("outputs", [1000, 10**6, 10**9, 10**18, 10**30])
def test_sizes_are_refused_before_they_get_memory(
    folder: Path, outputs: int
) -> None:
    path = folder / "huge.lq"
    rewritten(stored(folder, 3), path, {"outputs": outputs})
    with pytest.raises(ArtifactError, match="does not fit the network"):
        load_quantized(path)
    path = folder / "huge.safetensors"
    record = {"num_outputs": outputs, "class_names": NAMES}
    save_weights(path, small_network(), "small", record)
    with pytest.raises(WeightsError, match="values at most|sizes"):
        load_weights(path)


def test_scales_that_are_no_numbers_are_refused(folder: Path) -> None:
    tensors = load_file(stored(folder, 3))
    with safe_open(stored(folder, 3), framework="pt") as file:
        header = json.loads(file.metadata()[FIELD])
    for name in ("scales", "rest.float32"):
        broken = {key: value.clone() for key, value in tensors.items()}
        broken[name][0] = torch.nan
        own = {k: v for k, v in header.items() if k != "sha256"}
        own["sha256"] = _digest(broken, own)
        path = folder / "nan.lq"
        save_file(broken, path, {FIELD: canonical_json(own)})
        with pytest.raises(ArtifactError, match="not finite"):
            load_quantized(path)


# -- pickles of images -------------------------------------------------------

ENTRIES = {"data": np.arange(2 * 3072).reshape(2, -1).astype(np.uint8)}
ENTRIES |= {"labels": [0, 1], "filenames": ["a", "b"]}
SAMPLES = [python2_pickle(ENTRIES), pickle.dumps(ENTRIES, 4)]
# What a pickle can be made of: marks, lists, memos, calls and their names.
PIECES = [bytes([b]) for b in b"(.01NI]}lde)tusaqhRbc\x81\x85\x86\x87\x94"]
PIECES += [b"K\x01", b"cos\nsystem\n", b"U\x01x", b"J\xff\xff\xff\x7f", b"h\0"]
PIECES += [b"\x80\x04", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"q\x00"]


@quick
@given(st.data())
def test_damaged_pickles_run_nothing(folder: Path, data: Any) -> None:
    marker = folder / "ran"
    touch = f"touch {marker}".encode()
    attack = b"cos\nsystem\n(U" + bytes([len(touch)]) + touch + b"tR."
    sample = data.draw(st.sampled_from(SAMPLES))
    stream = st.lists(st.sampled_from(PIECES)).map(b"".join)
    content = data.draw(damaged(sample, attack) | stream)
    try:
        found = read_dictionary(content, Path("file"), "Get another.")
    except DataError as error:
        assert "file" in str(error) and "Get another." in str(error)
    else:
        assert all(type(name) is str for name in found)
    assert not marker.exists()
    # Nothing that was read before changes what is read next.
    again = read_dictionary(SAMPLES[0], Path("file"), "Get another.")
    np.testing.assert_array_equal(again["data"], ENTRIES["data"])


def test_lists_of_lists_of_lists_end() -> None:
    value: list[Any] = []
    for _ in range(60):  # 2^60 values, if they were written out
        value = [value, value]
    content = pickle.dumps({"labels": value}, 4)
    with pytest.raises(DataError, match="more values than it has bytes"):
        read_dictionary(content, Path("file"), "Get another.")
    value.append(value)
    with pytest.raises(DataError):
        read_dictionary(pickle.dumps({"x": value}), Path("file"), "Get it.")


# -- plans and profiles ------------------------------------------------------

PLAN = 'layer,bits,options\nconv1,3,"damping=0.01, seed=1"\nfc,,\n'
CSV = [*"layer,bits\n\"'=()[]{}*:;#\r\t\0\\ 0123é"]
CSV += ["options", "a=1", "**{}", "1e999", "lambda: 1", "__import__('os')"]


@settings(max_examples=80, derandomize=True)
@given(st.data())
def test_plans_of_any_text(data: Any) -> None:
    text = data.draw(
        st.lists(st.sampled_from(CSV), max_size=20).map("".join) | st.text()
    )
    place = data.draw(st.integers(0, len(PLAN)))
    whole = data.draw(st.booleans())
    text = text if whole else PLAN[:place] + text + PLAN[place:]
    try:
        plan = Plan.from_text(text)
    except PlanError as error:
        assert len(str(error)) < 2000
    else:
        assert Plan.from_text(plan.to_text()) == plan


YAML = [*"-:[]{}&*!|>%@`'\"#,? \n\t0123_.~<é"]
YAML += ["90_passing", "bits", "size", "!!int ", "!!python/name:os.system "]
YAML += ["!!timestamp ", "0b_", "\n  ", "<<: *a", "&a ", "*a", "1e-3", ".nan"]
PROFILE = "90_passing: {size: 10, bits: [2]}\n"


@settings(max_examples=80, derandomize=True)
@given(st.data())
def test_profiles_of_any_text(folder: Path, data: Any) -> None:
    words = (
        st.lists(st.sampled_from(YAML), max_size=20).map("".join) | st.text()
    )
    text = data.draw(words)
    place = data.draw(st.integers(0, len(PROFILE)))
    if data.draw(st.booleans()):
        text = PROFILE[:place] + text + PROFILE[place:]
    content = data.draw(st.just(text.encode()) | st.binary())
    path = folder / "profiles" / "odd.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    shutil.copy(NOTEBOOKS / "90_passing.py", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LQ_NOTEBOOKS_DIR", str(folder))
        try:
            found = read_profile("odd")
            for values in found.values():
                check_values(PARAMETERS, values)
        except ParameterError as error:
            assert len(str(error)) < 2000 + 10 * len(content)


PARAMETERS = read_parameters(NOTEBOOKS / "90_passing.py")


def test_few_lines_for_billions_of_values(folder: Path) -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    path = folder / "profiles" / "bomb.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LQ_NOTEBOOKS_DIR", str(folder))
        with pytest.raises(ParameterError, match="without anchors"):
            read_profile("bomb")
        for text in ("[" * 600, "a: &a [*a]", "a: !!int b", "a: 0b_"):
            path.write_text(text)
            with pytest.raises(ParameterError, match=r"bomb\.yml"):
                read_profile("bomb")
