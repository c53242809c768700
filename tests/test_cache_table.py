"""Every line of the table in docs/cache.md has tests: what is noticed, and what is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEADER = "| what changes | what happens | not noticed |"

CHANGED = "nodes/test_changed_values.py::"
CODE = "engine/test_plugin_code.py::"
LOADED = "engine/test_loaded_code.py::"
STATE = "nodes/test_process_state.py::"
THREAD = "nodes/test_thread_state.py::"
SWITCHES = "nodes/test_torch_switches.py::"
CODEC_STATE = "nodes/test_codec_state.py::"
ROUNDING = "engine/test_rounding.py::"
MODELS = "nodes/test_switched_models.py::"
SIMILAR = "engine/test_similar_values.py::"
CODECS = "engine/test_codec_changes.py::"
ABOVE = "engine/test_nodes_above.py::"
REPLACED = "engine/test_replaced_code.py::"
SHARED = "engine/test_shared_modules.py::"
LIBRARIES = "engine/test_libraries.py::"
TIMES = "engine/test_file_times.py::"
WORK = "engine/test_work_folder.py::"
LIMITS = "engine/test_not_noticed.py::"
READS = LIMITS + "test_what_a_node_reads_besides_its_inputs_is_not_noticed"

TESTS: dict[str, tuple[list[str], list[str]]] = {
    "a node changes an input in place": (
        [
            CHANGED + "test_changed_input_changes_nothing_else",
            CHANGED + "test_object_that_the_producer_keeps_is_not_passed_on",
            CHANGED + "test_thread_that_outlives_its_node_changes_nothing",
            CHANGED + "test_lists_and_nested_values_are_each_readers_own",
        ],
        [],
    ),
    "a value without a codec": (
        ["nodes/test_changed_models.py::test_model_that_is_changed_in_place_is_not_used_again"],
        ["nodes/test_changed_models.py::test_change_that_torch_does_not_count_is_not_noticed"],
    ),
    "you change `result": ([CHANGED + "test_results_that_a_user_changes_stay_the_same"], []),
    "you change a value that you put into a workflow": (
        [
            CHANGED + "test_value_given_in_python_may_change_only_between_runs",
            CHANGED + "test_value_changed_by_its_owner_during_the_run_is_an_error",
            "engine/test_unkept_results.py::test_set_or_tuple_given_in_python_is_each_nodes_own",
        ],
        [],
    ),
    "values that are alike": (
        [
            SIMILAR + "test_alike_values_are_not_mixed_up",
            SIMILAR + "test_value_of_json_is_the_same_when_it_is_stored",
            SIMILAR + "test_value_that_json_would_change_is_not_stored_as_json",
            "nodes/test_bits.py::test_bits_of_tensors_are_kept_and_covered",
        ],
        [],
    ),
    "the order of a mapping": (
        [SIMILAR + "test_order_of_a_mapping_never_reaches_a_node"],
        [LIMITS + "test_seed_of_hashes_is_not_noticed"],
    ),
    "a value of a subclass": ([CODECS + "test_field_that_a_subclass_adds_is_lost_for_every_reader_with_a_notice"], []),
    "a workflow that a node uses": (
        [
            "engine/test_composed.py::test_edited_workflow_gives_what_it_gives_without_a_cache",
            "engine/test_composed.py::test_items_are_cached_one_by_one",
            "engine/test_composed.py::test_random_seeds_are_drawn_once_for_each_use_and_item",
            "engine/test_composed.py::test_a_file_that_changes_during_the_run_changes_nothing_in_it",
            "engine/test_composed_keys.py::test_expansion_means_what_a_hand_written_graph_means",
        ],
        [],
    ),
    "an input file": (
        [
            "engine/test_keys.py::test_files_are_keyed_by_content",
            "engine/test_changing_files.py::test_file_changed_during_the_run_stores_nothing",
            "engine/test_changing_files.py::test_file_changed_and_restored_stores_nothing",
            "engine/test_changing_files.py::test_outputs_of_a_run_may_come_from_both_states_of_a_file",
            TIMES + "test_file_with_the_same_size_and_time_of_change_is_read_again",
            TIMES + "test_coarse_times_hide_no_change",
            TIMES + "test_clock_that_was_set_back_before_the_file_is_looked_at_hides_no_change",
        ],
        [
            TIMES + "test_file_system_without_a_time_of_change_hides_a_change_whose_time_is_set_back",
            TIMES + "test_second_write_through_a_map_is_not_noticed_before_it_is_flushed",
            READS,
        ],
    ),
    "the path of an input file": (
        [
            "engine/test_keys.py::test_files_are_keyed_by_content",
            "engine/test_keys.py::test_text_that_names_files_is_in_the_key_unless_their_content_says_all",
        ],
        [LIMITS + "test_name_of_a_file_is_not_noticed"],
    ),
    "the files of a model": (
        [
            MODELS + "test_file_that_changes_while_it_is_read_is_read_again",
            MODELS + "test_file_that_changes_between_reading_and_hashing_is_not_kept",
            MODELS + "test_config_of_an_adapter_that_changes_after_it_was_read_is_read_again",
            MODELS + "test_file_that_changes_during_the_run_is_used_but_not_kept",
        ],
        [TIMES + "test_file_system_without_a_time_of_change_hides_a_change_whose_time_is_set_back"],
    ),
    "a link to a model": (
        [
            MODELS + "test_link_to_a_folder_that_is_switched_changes_nothing_for_a_run_that_has_begun",
            MODELS + "test_link_to_a_file_that_is_switched_while_it_is_read_is_an_error",
        ],
        [LIMITS + "test_link_that_is_switched_and_switched_back_is_not_noticed"],
    ),
    "the code of a plugin": (
        [
            CODE + "test_every_file_of_a_package_is_part_of_the_digest",
            CODE + "test_module_that_hides_a_standard_one_is_part_of_the_digest",
            CODE + "test_archive_with_a_helper_is_part_of_the_digest",
            CODE + "test_folders_behind_links_are_part_of_the_digest",
            CODE + "test_files_of_tools_are_not_part_of_the_digest",
            CODE + "test_module_on_the_path_is_part_of_the_digest",
            CODE + "test_indirect_imports_are_part_of_the_digest",
            "engine/test_import_scan.py::test_scan_finds_whatever_the_parser_finds",
            CODE + "test_edited_helper_is_a_miss",
            LOADED + "test_module_that_a_script_imported_is_not_kept_if_it_was_edited_before_the_engine_was_made",
            LOADED + "test_module_that_was_loaded_anew_and_put_back_is_not_kept",
            LOADED + "test_module_that_was_edited_and_put_back_without_a_load_is_kept",
            LOADED + "test_helper_that_was_edited_within_a_second_of_its_bytecode_is_read_from_its_source",
            LOADED + "test_submodule_that_only_other_code_imports_is_compared_at_a_hit",
            LOADED + "test_script_that_a_plugin_imports_is_part_of_its_code",
            LOADED + "test_module_of_the_same_name_in_another_plugin_is_no_hit",
            REPLACED + "test_function_that_a_plugin_chooses_when_it_is_loaded_is_in_the_key",
            REPLACED + "test_thing_that_a_plugin_chooses_when_it_is_loaded_is_in_the_key",
            LOADED + "test_plugin_that_imports_a_program_without_a_file_is_used_but_not_kept",
        ],
        [READS],
    ),
    "a module that is imported by a computed name": (
        [
            CODE + "test_module_that_is_loaded_in_an_unusual_way_counts",
            CODE + "test_module_that_was_loaded_anew_from_another_state_of_its_file_is_not_kept",
            CODE + "test_computed_name_that_finds_another_folder_is_no_hit",
            CODE + "test_module_that_a_node_imports_is_recorded_although_its_source_does_not_name_it",
            CODE + "test_module_imported_by_a_computed_name_is_compared_at_a_hit",
            CODE + "test_computed_import_of_a_second_run_of_the_process_is_compared_at_a_hit",
            CODE + "test_computed_import_of_what_the_script_had_imported_is_compared_at_a_hit",
            CODE + "test_computed_import_at_the_top_of_a_plugin_is_compared_at_a_hit",
            LOADED + "test_module_of_a_computed_name_that_is_loaded_anew_between_runs_is_recorded_as_it_was_loaded",
            LOADED + "test_module_that_is_loaded_in_a_hidden_way_is_compared_at_a_hit",
            LOADED + "test_module_of_another_plugin_is_compared_at_a_hit",
            LOADED + "test_module_that_a_library_loads_is_compared_at_a_hit",
            LOADED + "test_module_that_the_program_had_imported_is_compared_at_a_hit_if_data_name_it",
            LOADED + "test_module_whose_file_is_removed_once_it_is_loaded_is_never_found_again",
            LOADED + "test_new_module_that_is_found_instead_of_another_is_noticed",
            LOADED + "test_new_module_where_there_was_none_is_noticed",
            LOADED + "test_shared_library_that_a_node_loads_is_compared_at_a_hit",
            "engine/test_import_scan.py::test_computed_names_are_noticed",
            ABOVE + "test_module_that_a_node_above_imports_by_a_computed_name_is_compared_at_a_hit",
            ABOVE + "test_static_key_that_is_learned_later_has_the_imports_above_too",
            ABOVE + "test_import_of_a_node_whose_value_is_not_stored_is_compared_at_a_hit",
        ],
        [
            READS,
            LOADED + "test_script_of_another_process_is_not_noticed",
            LOADED + "test_earlier_state_of_a_module_that_a_node_has_kept_is_not_noticed",
            LOADED + "test_module_that_a_library_finds_by_a_name_in_data_is_not_noticed",
            LOADED + "test_new_module_that_is_found_by_listing_its_folder_is_not_noticed",
        ],
    ),
    "a node that runs a workflow": (
        [
            "engine/test_nested_runs.py::test_node_that_runs_a_workflow_or_loads_plugins_is_used_but_not_kept",
            "engine/test_nested_runs.py::test_node_whose_plugin_has_kept_other_plugins_is_used_but_not_kept",
            "engine/test_nested_runs.py::test_run_of_another_thread_while_a_node_runs_costs_no_result",
            "engine/test_nested_runs.py::test_listener_that_uses_an_engine_while_a_node_runs_costs_no_result",
        ],
        ["engine/test_nested_runs.py::test_workflow_that_a_node_runs_in_a_thread_that_python_does_not_know_is_not_noticed"],
    ),
    "what another plugin puts into a module": (
        [
            SHARED + "test_what_another_plugin_puts_into_a_module_is_in_the_key",
            SHARED + "test_file_that_a_codec_exported_with_a_changed_library_is_no_hit",
            SHARED + "test_module_that_a_plugin_of_another_engine_has_changed_is_no_hit",
            SHARED + "test_result_is_not_kept_once_a_node_has_changed_a_module_that_plugins_share",
            SHARED + "test_what_functions_of_a_shared_module_remember_costs_no_result",
        ],
        [SHARED + "test_what_a_plugin_does_to_a_library_in_a_hidden_way_is_not_noticed"],
    ),
    "a plugin that is edited while it runs": ([CODE + "test_plugin_edited_while_it_runs_is_used_but_not_kept"], []),
    "an installed plugin": (
        [
            CODE + "test_two_installs_of_one_version_are_different_code",
            CODE + "test_module_that_a_release_imports_from_outside_is_part_of_its_code",
            CODE + "test_package_that_a_release_includes_is_part_of_its_code",
            "engine/test_plugins.py::test_installed_plugin_is_identified_by_version",
        ],
        [READS],
    ),
    "other installed libraries": (
        [
            LIBRARIES + "test_version_of_a_library_is_part_of_the_code_that_imports_it",
            LIBRARIES + "test_new_version_is_a_miss",
            LIBRARIES + "test_optimized_python_has_other_keys",
            LIBRARIES + "test_release_has_the_versions_of_what_it_requires_in_its_code",
            LIBRARIES + "test_library_that_is_installed_again_during_the_run_is_used_but_not_kept",
        ],
        [LIBRARIES + "test_other_libraries_are_not", READS],
    ),
    "a registered sampler": (
        [
            REPLACED + "test_replaced_thing_is_used_but_not_kept",
            REPLACED + "test_list_inside_an_attribute_that_is_changed_is_noticed",
            REPLACED + "test_choice_that_is_an_object_is_an_error",
            REPLACED + "test_function_of_a_node_type_that_was_replaced_is_not_kept",
            REPLACED + "test_thing_that_a_node_replaces_during_the_run_is_not_kept",
            REPLACED + "test_thing_that_another_plugin_put_in_its_place_has_the_code_of_both_in_its_key",
            REPLACED + "test_registered_function_of_a_script_is_never_kept",
        ],
        [READS, REPLACED + "test_mapping_that_a_function_fills_is_no_change"],
    ),
    "a codec": (
        [
            CODECS + "test_value_is_not_read_by_other_code_of_its_codec",
            CODECS + "test_digest_that_covers_something_else_mixes_up_nothing",
            CODECS + "test_files_that_other_code_exported_are_not_used",
            ABOVE + "test_nodes_below_a_value_are_not_found_by_other_code_of_its_codec",
            ABOVE + "test_codec_that_is_registered_later_changes_the_keys_below",
        ],
        [],
    ),
    "device, dtype, attention": (
        [
            "engine/test_keys.py::test_numeric_class_is_only_in_keys_of_numeric_nodes",
            "engine/test_unkept_results.py::test_node_that_reads_the_dtype_is_not_kept_unless_it_is_numeric",
            "nodes/test_numerics.py::test_class_depends_on_dtype",
            "nodes/test_numerics.py::test_class_depends_on_attention_settings",
            STATE + "test_attention_that_the_program_chose_is_in_the_keys_of_nodes_that_are_not_numeric",
        ],
        [],
    ),
    "autocast, oneDNN": (
        [
            STATE + "test_switches_of_the_process_change_no_result",
            STATE + "test_switches_are_restored",
            STATE + "test_plugin_is_imported_in_the_known_state",
            STATE + "test_switches_that_a_node_sets_are_restored",
            STATE + "test_switch_that_a_node_leaves_while_another_runs_is_set_again_and_neither_is_kept",
            STATE + "test_node_that_is_not_declared_numeric_runs_with_known_switches_if_its_plugin_imports_torch",
            STATE + "test_node_is_watched_if_its_plugin_imports_torch_even_through_a_library",
            STATE + "test_node_is_watched_if_its_plugin_imports_modules_by_computed_names",
            THREAD + "test_switch_changes_no_result_and_is_restored",
            SWITCHES + "test_switch_of_the_process_is_known_to_nodes_and_restored",
            SWITCHES + "test_switch_of_gpus_is_known_to_nodes_and_restored",
            SWITCHES + "test_dtype_of_autocast_is_known_to_nodes_and_restored",
            SWITCHES + "test_either_api_of_precisions_may_be_used_before_a_run_and_inside_a_node",
            CODEC_STATE + "test_codecs_and_functions_that_find_files_run_in_the_known_state",
            CODEC_STATE + "test_state_that_a_function_for_files_leaves_is_restored",
        ],
        [
            STATE + "test_torch_without_an_import_is_not_noticed",
            SWITCHES + "test_switch_that_has_no_effect_here_is_not_noticed",
        ],
    ),
    "gradients, inference mode": (
        [
            THREAD + "test_switch_changes_no_result_and_is_restored",
            THREAD + "test_switch_that_a_node_leaves_changed_is_restored",
            SWITCHES + "test_switch_of_the_process_is_known_to_nodes_and_restored",
            SWITCHES + "test_hook_that_is_removed_while_nodes_run_stays_removed",
        ],
        [THREAD + "test_denormal_numbers_of_a_thread_of_the_program_are_not_noticed"],
    ),
    "the rounding mode": (
        [
            ROUNDING + "test_rounding_of_the_program_changes_no_result_and_is_restored",
            ROUNDING + "test_rounding_that_a_node_sets_is_restored",
            CODEC_STATE + "test_codecs_and_functions_that_find_files_run_in_the_known_state",
        ],
        [ROUNDING + "test_rounding_of_other_threads_is_not_noticed"],
    ),
    "how numbers are written": (
        [
            CODEC_STATE + "test_codecs_and_functions_that_find_files_run_in_the_known_state",
            LIMITS + "test_plugin_is_imported_in_the_known_state",
            THREAD + "test_how_numbers_are_written_changes_no_result_and_is_restored",
            THREAD + "test_arithmetic_of_numpy_changes_no_result_and_is_restored",
        ],
        [READS],
    ),
    "whether Pillow reads": ([THREAD + "test_half_a_picture_is_an_error_whatever_the_program_allows_pillow"], []),
    "the number of threads": (
        [
            THREAD + "test_switch_that_a_node_leaves_changed_is_restored",
            THREAD + "test_results_of_another_number_of_threads_differ_by_rounding",
        ],
        [THREAD + "test_number_of_threads_is_not_noticed"],
    ),
    "variables of the environment by which": (
        [STATE + "test_variable_that_libraries_compute_by_is_in_the_keys_of_nodes_that_use_them"],
        [READS],
    ),
    "the locale": (
        [
            "engine/test_locale.py::test_locale_of_the_program_changes_no_result_and_is_restored",
            "engine/test_locale.py::test_locale_that_a_node_sets_is_restored_with_a_note",
            "engine/test_locale.py::test_locale_that_a_node_leaves_while_another_runs_is_set_again_and_neither_is_kept",
            SIMILAR + "test_keys_do_not_depend_on_the_locale_and_the_seed_of_hashes",
        ],
        ["engine/test_locale.py::test_order_of_words_in_another_locale_is_not_noticed"],
    ),
    "the encoding of text": (
        [
            "engine/test_locale.py::test_text_in_another_encoding_is_another_result",
            "engine/test_locale.py::test_encoding_that_is_changed_after_the_plugins_were_loaded_is_in_the_key",
            "engine/test_locale.py::test_our_own_nodes_have_the_same_keys_in_every_encoding",
        ],
        ["engine/test_locale.py::test_encoding_that_a_node_changes_is_not_noticed"],
    ),
    "a run that is stopped, or a node that is over its time": (
        [
            "engine/test_attempts.py::test_what_a_node_returns_although_its_run_was_stopped_is_not_kept",
            "engine/test_attempts.py::test_node_that_catches_the_end_of_its_time_fails_all_the_same",
        ],
        ["engine/test_attempts.py::test_memory_error_that_a_node_catches_is_not_noticed"],
    ),
    "a node draws from a global generator": (
        [
            STATE + "test_node_that_draws_from_a_global_generator_is_not_kept",
            STATE + "test_draw_of_a_node_that_is_not_declared_numeric_is_noticed_if_its_plugin_imports_torch",
            "engine/test_unkept_results.py::test_nodes_below_a_result_that_is_not_kept_run_again",
        ],
        [READS],
    ),
    "the codec of a value draws from a global generator": (
        [
            "engine/test_unkept_results.py::test_value_whose_codec_draws_is_not_kept",
            "engine/test_unkept_results.py::test_exported_file_of_a_codec_that_draws_is_not_stored",
        ],
        ["engine/test_unkept_results.py::test_codec_that_draws_only_later_is_not_noticed"],
    ),
    "a node sets an environment variable": (
        [
            STATE + "test_environment_and_current_directory_are_restored",
            STATE + "test_change_that_a_node_leaves_while_others_run_is_undone_once_none_runs",
            STATE + "test_timezone_that_a_node_sets_is_restored",
        ],
        [READS],
    ),
    "a node that works for long": (
        [
            WORK + "test_work_that_failed_continues",
            WORK + "test_work_that_was_finished_goes_further",
            WORK + "test_work_of_other_inputs_is_another",
            WORK + "test_process_that_is_killed_continues",
            WORK + "test_forced_node_begins_anew",
            WORK + "test_checked_node_computes_everything_again",
            WORK + "test_work_whose_result_is_not_kept_is_not_continued",
            WORK + "test_work_that_used_a_changed_module_is_not_continued",
            WORK + "test_work_of_edited_code_is_another",
            WORK + "test_folder_is_locked_while_a_node_uses_it",
            "training/test_training_nodes.py::test_training_whose_unfinished_work_is_damaged_begins_anew",
        ],
        [WORK + "test_what_is_changed_in_the_folder_is_not_noticed"],
    ),
    "the time of day": (
        [],
        [
            READS,
            LIMITS + "test_state_of_the_program_when_it_imports_a_module_is_not_noticed",
            LIMITS + "test_resident_value_whose_key_does_not_say_what_it_depends_on_is_not_noticed",
        ],
    ),
    "the seed of Python's hashes": (
        [SIMILAR + "test_keys_do_not_depend_on_the_locale_and_the_seed_of_hashes"],
        [LIMITS + "test_seed_of_hashes_is_not_noticed"],
    ),
}


def rows() -> dict[str, tuple[str, str]]:
    """What happens and what is not noticed, by what changes."""
    table = (ROOT / "docs" / "cache.md").read_text(encoding="utf-8").partition(HEADER)[2].partition("\n\n")[0]
    cells = (re.split(r" ?\| ?", line.strip())[1:-1] for line in table.splitlines()[2:])
    return {first: (second, third) for first, second, third in cells}


@cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    """The functions of a file of tests, by name. No test of it is left out as a whole, and none hides another one."""
    found: dict[str, ast.FunctionDef] = {}
    for statement in ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef):
            assert statement.name not in found, f"{file} has two functions called {statement.name}"
            found[statement.name] = statement
        elif isinstance(statement, ast.Expr) or "pytestmark" in names_in(statement):
            assert not names_in(statement) & {"skip", "skipif", "xfail", "importorskip"}, f"{file} is skipped as a whole"
    return found


def names_in(node: ast.AST) -> set[str]:
    """The names that code uses: of "pytest.mark.skip(reason)", the names pytest, mark, skip and reason."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def checks_something(function: ast.FunctionDef, of_file: Mapping[str, ast.FunctionDef]) -> bool:
    """Whether a test has an `assert` or expects an error, or a function of its file that it calls does."""
    names = names_in(function)
    if any(isinstance(part, ast.Assert) for part in ast.walk(function)) or names & {"raises", "fail"}:
        return True
    called = (of_file[name] for name in names if name in of_file and name != function.name)
    return any(checks_something(other, of_file) for other in called)


def problem_of(test: str) -> str | None:
    """Why a test proves nothing; None if it does."""
    file, _, name = test.partition("::")
    function = functions(file).get(name)
    if function is None or not name.startswith("test_"):
        return "there is no such test"
    if names_in(ast.List(elts=function.decorator_list)) & {"skip", "xfail"}:
        return "it is skipped, or may fail"
    return None if checks_something(function, functions(file)) else "it checks nothing"


def is_always_run(test: str) -> bool:
    """Whether a test is run on every system, and not only among the slow tests."""
    file, _, name = test.partition("::")
    return not names_in(functions(file)[name]) & {"skip", "skipif", "importorskip", "slow"}


@pytest.mark.parametrize("row", rows())
def test_line_has_tests(row: str) -> None:
    """A line that promises something has tests of it, and one that admits something has tests that show it."""
    known = [beginning for beginning in TESTS if row.startswith(beginning)]
    assert len(known) == 1, f"expected one entry in TESTS whose name begins like the line '{row}', found {known}. Add its tests"
    promised, admitted = rows()[row]
    of_promise, of_admission = TESTS[known[0]]
    for cell, tests in ((promised, of_promise), (admitted, of_admission)):
        assert bool(cell.strip()) == bool(tests), f"'{row}': expected tests for '{cell}', found {tests}"
        for test in tests:
            assert problem_of(test) is None, f"{test}: {problem_of(test)}"
    assert not of_promise or any(map(is_always_run, of_promise)), f"'{row}': expected a fast test that no system skips"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("def test_it():\n    assert True", None),
        ("def check():\n    assert True\ndef test_it():\n    check()", None),
        ("def test_it():\n    with pytest.raises(ValueError):\n        pass", None),
        ("def test_other():\n    assert True", "there is no such test"),
        ("class A:\n    def test_it():\n        assert True", "there is no such test"),
        ("def test_it():\n    pass", "it checks nothing"),
        ("@pytest.mark.skip\ndef test_it():\n    assert True", "it is skipped"),
        ("@mark.xfail(reason='no')\ndef test_it():\n    assert True", "it is skipped"),
    ],
)
def test_test_that_is_missing_skipped_or_empty_is_noticed(tmp_path: Path, body: str, problem: str | None) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(body)
    found = problem_of(f"{file}::test_it")
    assert found == problem if problem is None or found is None else found.startswith(problem)
    file.with_name("test_whole.py").write_text(f"pytestmark = pytest.mark.skip\n{body}")
    with pytest.raises(AssertionError, match="skipped as a whole"):
        problem_of(f"{file.with_name('test_whole.py')}::test_it")


def test_each_entry_has_a_line() -> None:
    assert [beginning for beginning in TESTS if not any(row.startswith(beginning) for row in rows())] == []
