from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gdpo.errors import TrainingError
from gdpo.plotting import figure as plotting
from gdpo.plotting.data import COLOURS, MARKERS, FigureContent, PlottedRun, _readable, smooth
from gdpo.plotting.figure import plot_convergence
from gdpo.plotting.panels import draw_step, small_panels


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer dots, so that drawing does not dominate the time of the tests."""
    monkeypatch.setattr(plotting, "DOTS_PER_INCH", 40)


def history(names=("polite", "short", "solved"), steps=6, **changes) -> list[dict]:
    """A made-up run with an evaluation at every third step."""
    count = len(names)

    def evaluation(step):
        rewards = {
            name: {"mean": 0.2 + 0.5 * step / steps + 0.02 * k, "standard_error": 0.03}
            for k, name in enumerate(names)
        }
        return {"rewards": rewards, "length": {"mean": 40.0, "std": 5.0}, "truncated": 0.1}

    records = [{"step": 0, "eval": evaluation(0)}]
    for step in range(1, steps + 1):
        cosine = 0.5 * math.cos(step)
        record = {
            "step": step,
            "rewards": {
                name: {"mean": 0.2 + 0.1 * step + 0.05 * math.sin(step + k), "std": 0.2}
                for k, name in enumerate(names)
            },
            "preferences": dict.fromkeys(names, 1 / count),
            "weights": {name: (1 + k) / count / 2 for k, name in enumerate(names)},
            "cosines": [[1.0 if i == j else cosine for j in range(count)] for i in range(count)],
            "dispersion": 0.8 - 0.02 * step,
            "dispersion_floor": 0.7,
            "dispersion_reached": step < 5,
            "length": {"mean": 40.0 - step, "std": 9.0},
            "truncated": 0.1 / step,
            "entropy": 2.0 - 0.1 * step,
            "kl": 0.001 * step,
            "converged": False,
            **changes,
        }
        if step % 3 == 0:
            record["eval"] = evaluation(step)
        records.append(record)
    return records


NOTHING_BUT_NULLS = {
    "rewards": {"polite": {"mean": None, "std": None}},
    "preferences": {"polite": None},
    "weights": {"polite": None},
    "cosines": [[None]],
    "dispersion": None,
    "dispersion_floor": None,
    "length": {"mean": None, "std": None},
    "truncated": None,
    "entropy": None,
    "kl": None,
    "eval": None,
}
CONSTANT = {
    "rewards": {"a": {"mean": 1.0, "std": 0.0}, "b": {"mean": 0.0, "std": 0.0}},
    "weights": {"a": 0.0, "b": 0.0},
    "length": {"mean": 0.0, "std": 0.0},
    "truncated": 0.0,
    "kl": 0.0,
    "entropy": 0.0,
}
EDGES = {
    "no record": {"run": []},
    "before training only": {"run": history()[:1]},
    "one step": {"run": history()[:2]},
    "a single reward": {"run": history(("polite",))},
    "sixteen rewards": {"run": history(tuple(f"reward number {n}" for n in range(16)))},
    "constant values": {"run": history(("a", "b"), **CONSTANT)},
    "only nulls": {"run": history(("polite",), **NOTHING_BUT_NULLS)},
    "negative and large rewards": {
        "run": history(("a", "b"), rewards={"a": {"mean": -40.0}, "b": {"mean": 1e6}})
    },
    "bare records": {"run": [{"step": 1}, {"step": 2, "rewards": {}, "cosines": None}]},
    "odd names": {"$実験_1": history(("$\\frac{", "_hidden", "a$b$", "x" * 64, "丁寧さ"))},
    "runs with different rewards and lengths": {
        "first": history(("a", "b")),
        "second": history(("b", "c", "d"), steps=11),
        "third": [],
        "fourth": history(("a",), steps=1),
    },
}


@pytest.mark.parametrize("case", EDGES)
def test_every_history_can_be_drawn_without_a_warning(case):
    runs = copy.deepcopy(EDGES[case])
    pixels = plot_convergence(runs)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (420, 600, 3)
    assert (pixels != 255).any()
    assert runs == EDGES[case]


def test_the_file_holds_the_returned_pixels_and_replaces_the_old_one(tmp_path):
    from matplotlib.image import imread

    path = tmp_path / "convergence.png"
    path.write_bytes(b"old")
    pixels = plot_convergence({"run": history()}, path)
    decoded = np.round(imread(path)[..., :3] * 255).astype(np.uint8)
    np.testing.assert_array_equal(decoded, pixels)
    assert [item.name for item in tmp_path.iterdir()] == ["convergence.png"]


def test_a_figure_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "folder.png", tmp_path / "missing" / "a.png"):
        with pytest.raises(TrainingError, match="The figure cannot be written to"):
            plot_convergence({"run": []}, path)
    assert [item.name for item in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.parametrize("count", [0, 5])
def test_no_run_or_too_many_are_refused(count):
    with pytest.raises(TrainingError, match=rf"1 to 4 runs\. Found {count}"):
        plot_convergence({str(number): [] for number in range(count)})


def test_each_reward_shows_its_colour(monkeypatch):
    monkeypatch.setattr(plotting, "DOTS_PER_INCH", 100)
    pixels = plot_convergence({"run": history()}).reshape(-1, 3)
    for colour in COLOURS[:3]:
        wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 100


def test_colours_set_by_the_host_do_not_change_the_figure():
    import matplotlib as mpl

    run = {"run": history(("a", "b"), steps=3)}
    plain = plot_convergence(run)
    dark = {
        "figure.facecolor": "black",
        "axes.facecolor": "black",
        "axes.labelcolor": "white",
        "axes.edgecolor": "white",
        "axes.titlecolor": "white",
        "text.color": "white",
        "xtick.color": "white",
        "ytick.color": "white",
        "grid.color": "red",
        "savefig.facecolor": "black",
        "image.cmap": "gray",
    }
    with mpl.rc_context(dark):
        np.testing.assert_array_equal(plot_convergence(run), plain)


def test_pyplot_and_its_global_state_stay_untouched():
    program = (
        "import sys; from gdpo.plotting.figure import plot_convergence; "
        "assert 'matplotlib' not in sys.modules; plot_convergence({'run': []}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = Path(plotting.__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=120)


def test_numbers_that_are_missing_or_not_finite_become_gaps():
    values = [1, 2.5, None, math.nan, math.inf, True, "3", {"deeper": 1}]
    run = PlottedRun([{"step": n, "kl": value} for n, value in enumerate(values)], "run", "-")
    np.testing.assert_array_equal(run.series("kl"), [1, 2.5, *[np.nan] * 6])
    np.testing.assert_array_equal(run.series("no", "such"), [np.nan] * 8)


def test_smoothing_is_a_centred_mean_with_the_window_s_own_band():
    # Windows of one neighbour on each side: (0, 1), (0, 1), gap, (3). The standard deviation of
    # (0, 1) is 1/sqrt(2), of their mean 1/2, hence 1.96/2 on each side.
    mean, half = smooth(np.array([0.0, 1.0, np.nan, 3.0]))
    np.testing.assert_allclose(mean, [0.5, 0.5, np.nan, 3.0])
    np.testing.assert_allclose(half, [0.98, 0.98, np.nan, np.nan])


def test_conflicts_are_averaged_over_the_last_quarter_and_skip_nulls():
    def record(step, value):
        return {"step": step, "cosines": [[1.0, value], [value, 1.0]]}

    values = [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, -0.2, -0.4]
    run = PlottedRun([record(n, value) for n, value in enumerate(values)], "run", "-")
    np.testing.assert_allclose(run.cosines(2), [[1, -0.3], [-0.3, 1]])
    run = PlottedRun([*run.records[:7], record(7, None)], "run", "-")
    np.testing.assert_allclose(run.cosines(2), [[1, -0.2], [-0.2, 1]])
    assert run.cosines(3) is None
    nulls = PlottedRun([record(0, None)], "run", "-")
    np.testing.assert_allclose(nulls.cosines(2), [[1, np.nan], [np.nan, 1]])


def test_first_and_last_values_come_from_held_out_prompts_if_there_are_any():
    run = PlottedRun(history(("a",)), "run", "-")
    assert run.change("a") == pytest.approx((0.2, 0.7))
    trained = PlottedRun([{"step": n, "rewards": {"a": {"mean": n}}} for n in range(3)], "run", "-")
    # Smoothed by neighbours: (0 + 1) / 2 and (1 + 2) / 2.
    assert trained.change("a") == pytest.approx((0.5, 1.5))
    assert PlottedRun(history(("a",))[:1], "run", "-").change("a") == pytest.approx((0.2,))
    assert run.change("b") == ()


def test_sixteen_rewards_have_sixteen_looks():
    content = FigureContent.of({"run": history(tuple(map(str, range(16))))})
    assert len({(content.colour(n), content.marker(n)) for n in range(16)}) == 16
    assert len(set(COLOURS)) == len(COLOURS)
    assert len(set(MARKERS)) == len(MARKERS)


def test_names_that_no_font_can_show_are_replaced_by_their_number():
    latin = {"a font": {ord(letter) for letter in "abc$"}}
    assert _readable("abc", "reward 1", 22, latin) == "abc"
    assert _readable("丁寧さ", "reward 1", 22, latin) == "reward 1"
    assert _readable("a$b$", "reward 1", 22, latin) == r"a\$b\$"
    assert _readable("abcabcabc", "reward 1", 5, latin) == "abca…"
    both = {**latin, "another": {ord(letter) for letter in "丁寧さ"}}
    assert _readable("丁寧さabc", "reward 1", 22, both) == "丁寧さabc"


def test_the_step_has_a_panel_where_a_run_has_natural_steps():
    plain = history(("a",))
    natural = [{**one, "step_kl": 0.3, "step_kl_measured": 0.25} for one in plain]
    empty = [{**one, "step_kl": None} for one in plain]
    expected = {"plain": 5, "natural": 6, "empty": 5, "both": 6}
    runs = {"plain": [plain], "natural": [natural], "empty": [empty], "both": [plain, natural]}
    for name, records in runs.items():
        content = FigureContent.of({str(n): one for n, one in enumerate(records)})
        assert len(small_panels(content)) == expected[name], name
        assert plot_convergence({str(n): one for n, one in enumerate(records)}).any()


def test_a_step_is_drawn_as_predicted_and_as_measured_and_predicted_of_one_run_alone():
    from matplotlib.figure import Figure

    records = [{**one, "step_kl": 0.3, "step_kl_measured": 0.25} for one in history(("a",))]
    for count, expected in ((1, [0.3, 0.25]), (2, [0.25, 0.25])):
        axes = Figure().add_subplot()
        draw_step(axes, FigureContent.of({str(n): records for n in range(count)}))
        curves = [curve.get_ydata() for curve in axes.get_lines()]
        assert [set(heights) for heights in curves if len(heights)] == [{y} for y in expected]
