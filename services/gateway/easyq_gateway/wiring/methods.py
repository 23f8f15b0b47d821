"""The use case behind each method of the API, for REST and for gRPC."""

from __future__ import annotations

from collections.abc import Mapping

from easyq.v1 import (
    event_service_pb2_grpc,
    execution_service_pb2_grpc,
    farm_service_pb2_grpc,
    job_service_pb2_grpc,
    log_service_pb2_grpc,
    notification_service_pb2_grpc,
    task_service_pb2_grpc,
)
from easyq_chassis.server import GrpcServer
from easyq_gateway.rest.transcoder import Call
from easyq_gateway.servicer import ExecutionServicer, FarmServicer, JobServicer, LogServicer, TaskServicer
from easyq_gateway.servicer_events import EventServicer
from easyq_gateway.servicer_notifications import NotificationServicer
from easyq_gateway.wiring.usecases import UseCases

#: The package of the public API, as its methods' names begin.
PACKAGE = "easyq.v1."


def transcoded(of: UseCases) -> Mapping[str, Call]:
    """The methods that REST may have a binding for, by `Service.Method`."""
    return {
        "JobService.CreateJob": of.creating.create,
        "JobService.PutJob": of.replacing.put,
        "JobService.GetJob": of.awaiting.get_job,
        "JobService.ListJobs": of.reading.list_jobs,
        "JobService.StopJob": of.steering.stop_job,
        "JobService.RetryJob": of.steering.retry_job,
        "JobService.PauseJob": of.recurring.pause_job,
        "JobService.ResumeJob": of.recurring.resume_job,
        "JobService.TriggerJob": of.recurring.trigger_job,
        "JobService.GetSchedule": of.recurring.get_schedule,
        "JobService.ExplainJob": of.explaining.job,
        "JobService.DeleteJob": of.deleting.delete_job,
        "JobService.StopJobs": of.many.stop_jobs,
        "JobService.ListErrors": of.many.list_errors,
        "JobService.RetryErrors": of.many.retry_errors,
        "JobService.DiscardErrors": of.many.discard_errors,
        "JobService.BatchCreateJobs": of.batching.batch,
        "ExecutionService.GetExecution": of.reading.get_execution,
        "ExecutionService.ListExecutions": of.reading.list_executions,
        "ExecutionService.StopExecution": of.steering.stop_execution,
        "TaskService.GetTask": of.reading.get_task,
        "TaskService.ExplainTask": of.explaining.task,
        "TaskService.GetTaskStats": of.statistics.of_task,
        "TaskService.DeleteTask": of.deleting.delete_task,
        "TaskService.ListTasks": of.reading.list_tasks,
        "TaskService.ListQueues": of.queues.list_queues,
        "FarmService.GetStatus": of.farm.status,
        "FarmService.ListAgents": of.farm.list_agents,
        "FarmService.GetAgent": of.farm.get_agent,
        "FarmService.CordonAgent": of.upkeep.cordon,
        "FarmService.UncordonAgent": of.upkeep.uncordon,
        "FarmService.DrainAgent": of.upkeep.drain,
        "FarmService.DeclareAgentDead": of.upkeep.declare_dead,
        "FarmService.ListPools": of.matchings.list_pools,
        "FarmService.ExplainPool": of.explaining.pool,
        "FarmService.ListLimits": of.matchings.list_limits,
        "FarmService.ListBreakers": of.matchings.list_breakers,
        "FarmService.ResetBreaker": of.matchings.reset_breaker,
        "FarmService.GetStats": of.statistics.of_farm,
        "FarmService.Search": of.reading.search,
        "NotificationService.ListDeliveries": of.notifications.list_deliveries,
        "NotificationService.ResendDelivery": of.notifications.resend,
    }


def add_servicers(server: GrpcServer, of: UseCases) -> None:
    """Has the server serve all of the API."""
    job = JobServicer(
        creating=of.creating,
        replacing=of.replacing,
        batching=of.batching,
        awaiting=of.awaiting,
        reading=of.reading,
        steering=of.steering,
        recurring=of.recurring,
        explaining=of.explaining,
        deleting=of.deleting,
        many=of.many,
    )
    execution = ExecutionServicer(reading=of.reading, steering=of.steering)
    task = TaskServicer(
        reading=of.reading,
        statistics=of.statistics,
        explaining=of.explaining,
        deleting=of.deleting,
        queues=of.queues,
    )
    farm = FarmServicer(
        farm=of.farm,
        reading=of.reading,
        statistics=of.statistics,
        upkeep=of.upkeep,
        matchings=of.matchings,
        explaining=of.explaining,
    )
    logs = LogServicer(logs=of.logs, following=of.following)
    events = EventServicer(watching=of.watching)
    notifications = NotificationServicer(notifications=of.notifications)
    for register, servicer, name in (
        (job_service_pb2_grpc.add_JobServiceServicer_to_server, job, "JobService"),
        (execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server, execution, "ExecutionService"),
        (task_service_pb2_grpc.add_TaskServiceServicer_to_server, task, "TaskService"),
        (farm_service_pb2_grpc.add_FarmServiceServicer_to_server, farm, "FarmService"),
        (log_service_pb2_grpc.add_LogServiceServicer_to_server, logs, "LogService"),
        (event_service_pb2_grpc.add_EventServiceServicer_to_server, events, "EventService"),
        (
            notification_service_pb2_grpc.add_NotificationServiceServicer_to_server,
            notifications,
            "NotificationService",
        ),
    ):
        server.add(register, servicer, f"{PACKAGE}{name}")
