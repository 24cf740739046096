"""Bridges between the local engine and AWS: each is one small function whose docstring names the gap.

``tests/integration/test_engine_patches.py`` shows every gap on the plain engine and its closing on the patched one. It
fails when a newer engine has closed a gap itself.
"""

from __future__ import annotations

from local.engine_patches import alarms, functions, limits, permissions, roles, rules, stacks, streams, workflows

# In the order in which they take hold: a later one wraps an earlier one. What turns an error of a function into the
# callback's comes after what makes such errors, and what stops an execution comes last.
BRIDGES = (
    alarms.count_executions,
    alarms.read_embedded_metrics,
    alarms.deploy_composite_alarms,
    alarms.keep_silent_while_suppressed,
    alarms.deploy_alarms_on_metric_math,
    alarms.look_at_alarms_as_cloudwatch_does,
    functions.name_errors_by_their_class,
    functions.tell_source_queue_of_dead_letters,
    functions.count_concurrent_invocations,
    limits.limit_what_a_message_holds,
    limits.limit_what_a_state_holds,
    permissions.ask_for_single_message_permissions,
    permissions.ask_for_partiql_permissions,
    permissions.tell_of_missing_objects_only_who_may_list,
    permissions.count_the_loopback_as_tls,
    roles.let_mappings_read_only_with_their_role,
    roles.let_state_machines_act_only_with_their_role,
    roles.let_distributed_maps_run_only_with_their_role,
    roles.let_state_machines_wait_only_with_their_role,
    roles.let_functions_log_only_with_their_role,
    roles.let_alarms_publish_only_where_they_may,
    rules.send_undeliverable_events_to_the_dead_letter_queue,
    stacks.apply_reserved_concurrency,
    stacks.read_numbers_of_mappings,
    streams.record_partiql_writes,
    streams.read_streams_beside_the_queues,
    streams.resume_at_the_first_failure,
    streams.fail_over_to_a_bucket,
    workflows.share_a_few_workers,
    workflows.evaluate_timeouts,
    workflows.scale_callback_timeouts,
    workflows.name_throttling,
    workflows.fail_callbacks_whose_function_failed,
    workflows.give_every_attempt_its_own_token,
    workflows.close_tokens_of_stopped_executions,
    workflows.start_a_name_once,
)


def install() -> None:
    """Patch the engine in this process."""
    for bridge in BRIDGES:
        bridge()
