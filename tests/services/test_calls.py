"""A plain grpcio client, with stubs made by protoc from protos/, drives all 17 calls."""

import asyncio
import sys
from pathlib import Path

from services.conftest import Peer

ROOT = Path(__file__).parents[2]

CLIENT = """
import sys
from itertools import islice

import grpc
from tai.v1 import coordinator_pb2 as c, coordinator_pb2_grpc, governor_pb2 as g, governor_pb2_grpc
from tai.v1 import scheduler_pb2 as s, scheduler_pb2_grpc, types_pb2 as t

assert "tai_grpc" not in sys.modules
called = []

def note(name, answer):
    called.append(name)
    return answer

with grpc.insecure_channel(sys.argv[1]) as channel:
    governor = governor_pb2_grpc.GovernorStub(channel)
    watch = governor.StreamPolicies(g.StreamPoliciesRequest(ids=["p"]))
    watch.initial_metadata()
    policy = t.Policy(id="p", policy_type="security", rules={"tls": "required"}, enabled=True)
    assert note("ProposePolicy", governor.ProposePolicy(policy)).subject_id == "p"
    assert note("EnforcePolicy", governor.EnforcePolicy(policy)).version == 1
    assert note("RevokePolicy", governor.RevokePolicy(policy)).revision == 3
    page = note("GetPolicies", governor.GetPolicies(g.GetPoliciesRequest(ids=["p"])))
    assert [each.state for each in page.policies] == [t.POLICY_STATE_REVOKED]
    states = [update.policy.state for update in islice(watch, 3)]
    assert note("StreamPolicies", states) == [1, 2, 4]
    watch.cancel()
    assert note("Governor.HealthCheck", governor.HealthCheck(t.HealthCheckRequest())).status == "healthy"

    coordinator = coordinator_pb2_grpc.CoordinatorStub(channel)
    actions = coordinator.StreamActions(c.StreamActionsRequest(group="g"))
    actions.initial_metadata()
    signal = t.Signal(id="s", signal_type="fire", payload=b"hot", metadata={"floor": "3"}, priority=5)
    note("SubmitSignal", coordinator.SubmitSignal(signal))
    note("RequestAction", coordinator.RequestAction(t.Action(id="a", action_type="drill", group="g")))
    for action_id in ("s", "a"):
        action = note("StreamActions", next(actions))
        assert action.id == action_id
        done = c.AcknowledgeActionRequest(
            action_id=action.id, group="g", lease_token=action.lease_token, outcome=c.OUTCOME_ACK
        )
        note("AcknowledgeAction", coordinator.AcknowledgeAction(done))
    status = note("GetStatus", coordinator.GetStatus(c.GetStatusRequest(action_id="s")))
    assert status.groups[0].acknowledged == 2
    assert status.actions[0].state == t.ACTION_STATE_ACKNOWLEDGED
    assert note("Coordinator.HealthCheck", coordinator.HealthCheck(t.HealthCheckRequest())).reason == ""

    scheduler = scheduler_pb2_grpc.SchedulerStub(channel)
    updates = scheduler.StreamTaskUpdates(s.StreamTaskUpdatesRequest(task_type="g"))
    updates.initial_metadata()
    note("SubmitTask", scheduler.SubmitTask(s.ScheduleTaskRequest(task_id="t", task_type="g")))
    action = next(actions)
    note("CancelTask", scheduler.CancelTask(s.CancelTaskRequest(task_id="t", reason="too late")))
    coordinator.AcknowledgeAction(c.AcknowledgeActionRequest(
        action_id=action.id, group="g", lease_token=action.lease_token, outcome=c.OUTCOME_ACK, result=b"42"
    ))
    task = note("GetTaskStatus", scheduler.GetTaskStatus(s.GetTaskStatusRequest(task_id="t")))
    assert (task.state, task.result, task.cancel_requested) == (s.TASK_STATE_SUCCEEDED, b"42", True)
    steps = [(update.status.state, update.status.cancel_requested) for update in islice(updates, 5)]
    assert note("StreamTaskUpdates", steps) == [(1, False), (2, False), (3, False), (3, True), (4, True)]
    updates.cancel()
    actions.cancel()
    assert note("Scheduler.HealthCheck", scheduler.HealthCheck(t.HealthCheckRequest())).status == "healthy"

print(len(set(called)), *sorted(set(called)))
"""


async def test_a_plain_grpcio_client_drives_all_17_calls(peer: Peer, tmp_path: Path) -> None:
    names = ("types", "governor", "coordinator", "scheduler")
    protoc = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-Iprotos",
        f"--python_out={tmp_path}",
        f"--grpc_python_out={tmp_path}",
        *(f"protos/tai/v1/{name}.proto" for name in names),
        cwd=ROOT,
    )
    assert await protoc.wait() == 0
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CLIENT,
        peer.server.address,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(client.communicate(), 60)
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    assert client.returncode == 0, errors.decode()
    assert output.startswith(b"17 ")
