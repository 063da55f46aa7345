"""Every target of the fuzzer by its name."""

from tests.fuzz import data_targets, export_targets, run_targets, serve_targets

TARGETS = {
    one.name: one
    for one in (
        *data_targets.TARGETS,
        *run_targets.TARGETS,
        *serve_targets.TARGETS,
        *export_targets.TARGETS,
    )
}
