"""What this project changes in the local engine so that it behaves as AWS does.

Each patch is a function whose docstring names the gap. ``tests/integration/test_engine_patches.py`` shows every gap on
the plain engine and its closing on the patched one; it fails when a newer engine has closed a gap itself.
"""

from __future__ import annotations

from local.engine_patches import (
    alarms,
    functions,
    limits,
    logs,
    permissions,
    roles,
    rules,
    stacks,
    stores,
    streams,
    workflows,
)

PATCHES = (
    alarms.publish_execution_metrics,
    alarms.extract_embedded_metrics,
    alarms.deploy_composite_alarms,
    alarms.deploy_alarms_on_metric_math,
    alarms.evaluate_alarms,
    alarms.run_alarm_actions,
    alarms.count_received_messages,
    functions.report_error_classes,
    functions.add_source_of_dead_letters,
    functions.count_invocations,
    functions.count_concurrent_invocations,
    limits.limit_message_size,
    logs.query_structured_logs,
    permissions.name_permissions_as_aws,
    permissions.check_partiql_permissions,
    permissions.hide_missing_objects,
    permissions.treat_loopback_as_tls,
    roles.check_role_of_function_logs,
    rules.send_undeliverable_events_to_the_dead_letter_queue,
    stacks.resolve_pseudo_parameters_in_conditions,
    stacks.accept_saved_queries,
    stacks.name_resources_of_each_stack,
    stacks.create_mappings,
    stacks.pause_mappings,
    stacks.apply_function_settings,
    stores.apply_table_settings,
    stores.apply_lifecycle,
    streams.record_partiql_writes,
    streams.poll_streams_beside_queues,
    streams.retry_from_the_first_failure,
    streams.write_failures_to_a_bucket,
    workflows.execute_tasks,
    workflows.call_functions,
    workflows.wait_for_callbacks,
    workflows.stop_executions,
    workflows.reuse_execution_names,
    workflows.check_role_of_nested_executions,
    workflows.check_role_of_distributed_maps,
    workflows.change_mappings,
    workflows.publish_from_tasks,
    workflows.write_items_from_tasks,
)


def install() -> None:
    """Patch the engine in this process.

    Raises:
        EngineChangedError: The engine is not the one that a patch was written for.
    """
    for patch in PATCHES:
        patch()
