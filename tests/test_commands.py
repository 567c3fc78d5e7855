"""Every command that a README or a page shows is run by a test, or says here why not."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib.metadata import entry_points

import pytest
from pages import ROOT, commands
from typer.core import TyperGroup
from typer.main import get_command

APP = "sw-sparse/tests/openmmlab/test_app.py::"
MODELS = "sw-models/tests/test_cli.py::"
DET, SEG = "sw-det/tests/test_cli.py::", "sw-seg/tests/test_cli.py::"
# The test that runs a command, below packages/.
RUN_BY = {
    "sw-ops doctor": "sw-ops/tests/test_cli.py::test_doctor_says_that_everything_works",
    "sw-ops bench": "sw-ops/tests/test_cli.py::test_bench_measures_every_contender_and_compares_files",
    "sw-ops accuracy": "sw-ops/tests/test_cli.py::test_accuracy_prints_the_errors_that_are_documented",
    "sw-models list": MODELS + "test_list_names_every_model",
    "sw-models info": MODELS + "test_info_describes_a_model",
    "sw-models convert": MODELS + "test_convert_writes_weights_that_load",
    "sw-models flops": MODELS + "test_measurements_print_and_draw",
    "sw-models erf": MODELS + "test_measurements_print_and_draw",
    "sw-models coverage": MODELS + "test_measurements_print_and_draw",
    "sw-models throughput": MODELS + "test_measurements_print_and_draw",
    "sw-models sparsity": MODELS + "test_sparsity_of_a_published_checkpoint",
    "sw-models export": "sw-models/tests/test_export.py::test_the_command_takes_the_class_names_from_the_weights",
    "sw-sparse train": "sw-sparse/tests/trainer/test_cli.py::"
    "test_without_data_train_learns_the_digits_and_eval_gives_the_same_figure",
    "sw-sparse eval": "sw-sparse/tests/trainer/test_cli.py::"
    "test_without_data_train_learns_the_digits_and_eval_gives_the_same_figure",
    "sw-sparse compact": "sw-sparse/tests/trainer/test_artifacts.py::"
    "test_the_command_compacts_afterwards_and_overwrites_nothing",
    "sw-det train": DET + "test_from_training_to_pictures",
    "sw-det test": DET + "test_from_training_to_pictures",
    "sw-det predict": DET + "test_from_training_to_pictures",
    "sw-det check": "sw-det/tests/test_annotations.py::test_check_at_the_terminal",
    "sw-det convert-data": "sw-det/tests/test_formats.py::test_convert_data_at_the_terminal",
    "sw-det flops": DET + "test_complexity_is_printed",
    "sw-det show-config": DET + "test_a_printed_configuration_can_be_trained_by_mmdetection",
    "sw-det export": APP + "test_a_run_is_trained_tested_and_used_by_its_name",
    "sw-det convert": "sw-seg/tests/test_published.py::test_a_published_segmenter_is_converted_and_used",
    "sw-seg train": SEG + "test_from_training_to_pictures",
    "sw-seg test": SEG + "test_from_training_to_pictures",
    "sw-seg predict": SEG + "test_from_training_to_pictures",
    "sw-seg check": "sw-seg/tests/test_numbering.py::test_check_at_the_terminal",
    "sw-seg convert-data": "sw-seg/tests/test_layouts.py::test_check_draws_and_convert_data_writes_any_layout",
    "sw-seg flops": APP + "test_complexity_is_summed",
    "sw-seg show-config": APP + "test_configurations_are_listed_and_shown",
    "sw-seg export": APP + "test_a_run_is_trained_tested_and_used_by_its_name",
    "sw-seg convert": "sw-seg/tests/test_published.py::test_a_published_segmenter_is_converted_and_used",
    "sw-anomaly check": "sw-anomaly/tests/cli/test_cli_check.py::test_a_sound_data_set_is_told_and_drawn",
    "sw-anomaly train": "sw-anomaly/tests/cli/test_cli_train.py::test_train_then_eval_with_its_checkpoint",
    "sw-anomaly eval": "sw-anomaly/tests/cli/test_cli_evaluate.py::"
    "test_eval_fits_first_says_so_and_writes_results_and_report",
    "sw-anomaly predict": "sw-anomaly/tests/cli/test_cli_predict.py::test_each_run_has_a_folder_of_its_own",
    "sw-anomaly correct": "sw-anomaly/tests/experiment/test_correct.py::"
    "test_images_that_were_not_corrected_are_judged_better",
    "sw-anomaly compare": "sw-anomaly/tests/evaluation/test_compare.py::"
    "test_the_command_prints_a_table_with_stars_or_json",
    "sw-anomaly export": "sw-anomaly/tests/export/test_onnx.py::test_the_command_writes_a_file_once",
    "sw-anomaly throughput": "sw-anomaly/tests/experiment/test_throughput.py::"
    "test_the_command_prints_a_row_per_checkpoint",
    "sw-anomaly sample": "sw-anomaly/tests/cli/test_cli_sample.py::"
    "test_sample_writes_a_folder_that_eval_takes_as_synthetic",
}
NOT_RUN = {
    "pip install": "asks an index, which has these names after a release; test_release.py installs the wheels",
    "gh attestation": "asks GitHub about a release that is published",
    "make ": "a target; it is checked below that there is one, and its recipe is written without running it",
    "bash .ci/run": "runs all tests, this one among them",
    ".venv/bin/python tools/release.py": "test_release.py runs its steps, and all of them in its slow test",
    ".venvs/sw-models/bin/python -m pytest": "a test of the suite",
    "python -m sw_det.mm": "of MMDetection; a slow test of sw-det runs it",
    "python -m sw_seg.mm": "of MMSegmentation, and otherwise like that of sw-det",
    "python main.py": "of the published repository",
    "python -m torch.distributed.run": "of the published repository",
    "python erf/": "of the published repository",
    "python throughout/": "of the published repository",
    ".venvs/peers/bin/python packages/sw-anomaly/tools/": "runs in an environment of its own; types are checked",
    "python packages/sw-anomaly/tools/aupro_cost.py": "a measurement of minutes; types are checked",
    "python packages/sw-anomaly/tools/plain_kernels.py": "trains for an hour on data that are not here",
    "python packages/sw-anomaly/tools/draw_dots.py": "draws 28 images of three million pixels; types are checked",
    "python packages/sw-ops/tools/cuda_figures.py": "compiles for a minute; types are checked",
    "python packages/sw-sparse/tools/cost.py": "a measurement of minutes; types are checked",
    "python packages/sw-sparse/tools/compact_speed.py": "a measurement of minutes; types are checked",
    "python packages/sw-sparse/tools/ghost_speed.py": "a measurement of minutes; types are checked",
    "python packages/sw-sparse/tools/unit_accuracy.py": "trains for minutes; types are checked",
    "python packages/sw-sparse/tools/scaling.py": "a measurement of minutes; types are checked",
    "python tools/small_scale.py": "trains for hours",
    "python tools/real_proof.py": "trains for an hour on photographs that are not here; types are checked",
    "python tools/figures.py": "make figures runs it; what it draws is looked at",
}
TYPED = commands()


def of_our_programs() -> dict[str, list[str]]:
    """Return what is typed for each command of a program of ours; torchrun starts some of them, too."""
    found: dict[str, list[str]] = {}
    for line in TYPED:
        line = re.sub(r"^torchrun .*-m (sw_\w+)(?:\.trainer)?\.cli", lambda it: it[1].replace("_", "-"), line)
        if match := re.match(r"(sw-\w+ [a-z][a-z-]*)", line):
            found.setdefault(match[1], []).append(line)
    return found


OURS = of_our_programs()


def options_of(command: str) -> set[str]:
    """Return the options that a command of a program takes."""
    program, name = command.split()
    (entry,) = entry_points(group="console_scripts", name=program)
    group = get_command(entry.load())
    assert isinstance(group, TyperGroup)
    return {option for one in group.commands[name].params for option in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("command", OURS)
def test_commands_exist_with_the_options_that_are_shown(command: str) -> None:
    for line in OURS[command]:
        shown = {word.split("=")[0] for word in shlex.split(line) if word.startswith("--")} - {"--help"}
        assert shown - options_of(command) == set(), line


@pytest.mark.parametrize("command", OURS)
def test_commands_are_run_by_a_test(command: str) -> None:
    file, name = RUN_BY[command].split("::")
    text = (ROOT / "packages" / file).read_text()
    assert f"def {name}(" in text
    assert re.search(rf"[\"' ]{command.split()[1]}[\"' ]", text), f"{file} does not say {command}"


@pytest.mark.parametrize("line", [line for line in TYPED if not re.match(r"sw-|torchrun .*-m sw_", line)])
def test_other_commands_say_why_they_are_not_run(line: str) -> None:
    assert [reason for start, reason in NOT_RUN.items() if line.startswith(start)], line
    if line.startswith("make "):
        done = subprocess.run(["make", "-n", line.split()[1]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    if match := re.match(r"\S*python ((?:packages|tools)/\S+\.py)", line):
        assert (ROOT / match[1]).is_file()
