"""Examples of the document. Each body is posted by a test, and must be accepted."""

from __future__ import annotations

from typing import Any

_HELLO = {"image": "busybox:1", "command": "echo hello"}

#: Bodies of a job's spec, by what they show.
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "hello": ("Run a command now", _HELLO),
    "command": (
        "A command as a list, with an environment",
        {
            "image": "python:3.13-slim",
            "command": ["python", "-c", "import os; print(os.environ['GREETING'])"],
            "envs": {"GREETING": "hello", "ATTEMPTS": 3, "VERBOSE": True},
            "labels": {"team": "mail"},
            "metadata": {"order": {"id": 42}},
        },
    ),
    "later": (
        "Later, and only if it can start in time",
        {**_HELLO, "startIn": "2h30m", "startDeadline": "10m"},
    ),
    "retries": (
        "With retries, a timeout and bounds",
        {
            **_HELLO,
            "retries": 3,
            "backoff": {"min": "5s", "factor": 3, "max": "10m", "jitter": 0.2},
            "retryOn": ["75", "100-110", "oom"],
            "timeout": "1h",
            "stopGrace": 30,
            "resources": {"cpus": 1.5, "memory": "512m", "pids": 200},
        },
    ),
    "recurring": (
        "Every night at three, in a zone with summer time",
        {
            **_HELLO,
            "cron": "0 3 * * *",
            "timeZone": "Europe/Vienna",
            "overlap": "SKIP",
            "misfire": "ONCE",
            "jitter": "5m",
        },
    ),
    "told": (
        "Who is told how it ended",
        {
            **_HELLO,
            "webhooks": {
                "fails": [{"url": "https://ops.example.org/bad", "secretName": "ops"}],
                "finishes": [{"url": "https://ops.example.org/any", "headers": {"X-Team": "mail"}}],
            },
            "notify": {"fails": ["ops@example.org"]},
        },
    ),
}

_SELECTION = {"selection": {"taskId": "mail", "state": ["QUEUED"], "olderThan": "1h"}, "dryRun": True}
_ERRORS = {"selection": {"taskId": "mail", "reason": ["NONZERO_EXIT"]}, "dryRun": True}

#: Other bodies, by the full name of the request.
BODIES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "easyq.v1.BatchCreateJobsRequest": {
        "two": (
            "Two jobs of two tasks",
            {
                "jobs": [
                    {"taskId": "mail", "idempotencyKey": "order-42", "spec": _HELLO},
                    {"taskId": "report", "spec": {"image": "busybox:1", "command": ["date"]}},
                ]
            },
        )
    },
    "easyq.v1.StopJobsRequest": {"old": ("Count what has waited for an hour", _SELECTION)},
    "easyq.v1.RetryErrorsRequest": {"failed": ("Count what a program's failure ended", _ERRORS)},
    "easyq.v1.DiscardErrorsRequest": {"failed": ("Count what a program's failure ended", _ERRORS)},
    "easyq.v1.ResetBreakerRequest": {
        "image": ("Try an image again", {"kind": "IMAGE", "subject": "registry.example/mail:1"})
    },
}


def simplest(name: str) -> dict[str, Any]:
    """Returns the first example of a body, by the full name of its message; empty where there is none."""
    shown = SPECS if name == "easyq.v1.JobSpec" else BODIES.get(name, {})
    return next((body for _, body in shown.values()), {})


#: Values of path parameters, by field.
PATH_VALUES: dict[str, str] = {
    "task_id": "mail",
    "job_id": "6565f1a2b3c4d5e6f7a8b9c0",
    "execution_id": "018c0f7e-5b7a-7c33-9d63-1c2f3a4b5c6d",
    "delivery_id": "0b1f0f3e-52f5-5a51-9d0f-0d1f4a3f7a10",
    "agent_id": "host-1",
    "name": "default",
}
