"""A job that fails is told by webhook and by e-mail, although everything is killed in between; no secret gets out."""

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from tests.e2e.conftest import FarmMaker
from tests.support.farm import Rest
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.receivers import MailReceiver
from tests.support.waiting import free_port, wait_until

CANARY = "c4n4ry7e11a"


class Hook:
    """An HTTP server in a thread: 500 until `works`."""

    def __init__(self) -> None:
        self.works = False
        # Path, headers and body, by one append: others read meanwhile.
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), body))
                self.send_response(200 if outer.works else 500)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def calls(self) -> list[tuple[dict[str, str], bytes]]:
        """Headers and bodies."""
        return [(headers, body) for _, headers, body in self.got]


@contextmanager
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@contextmanager
def mail_server() -> Iterator[MailReceiver]:
    receiver = MailReceiver(port=free_port())
    controller = Controller(receiver, hostname="127.0.0.1", port=receiver.port)
    controller.start()
    yield receiver
    controller.stop()


def delivery(rest: Rest, job_id: str, channel: str) -> Any:
    (found,) = [d for d in rest.get(f"/jobs/{job_id}/deliveries")["items"] if d["channel"] == channel]
    return found


def test_a_failure_is_told_whatever_dies(new_farm: FarmMaker, hosts: list[DockerHost]) -> None:
    with hook() as receiver, mail_server() as mails:
        env = {
            "EASYQ_SCHEDULER_SMTP_HOST": "127.0.0.1",
            "EASYQ_SCHEDULER_SMTP_PORT": str(mails.port),
            "EASYQ_SCHEDULER_SMTP_TLS": "none",
            "EASYQ_SCHEDULER_SMTP_FROM": "easyq@jobs.test",
            "EASYQ_SCHEDULER_PUBLIC_URL": "https://jobs.test",
            "EASYQ_SCHEDULER_NOTIFY_FIRST_RETRY": "0.5",
            "EASYQ_SCHEDULER_NOTIFY_LONGEST_RETRY": "1",
        }
        farm = new_farm([hosts[0]], slots=2, env=env)
        rest = farm.rest
        spec = {
            "image": EXAMPLE_IMAGE,
            "command": ["sh", "-c", "echo using $API_TOKEN; echo it broke >&2; exit 3"],
            "envs": {"API_TOKEN": CANARY},
            "webhooks": {
                "fails": [
                    {
                        "url": receiver.url.replace("//", f"//bob:{CANARY}@"),
                        "headers": {"X-Api": CANARY},
                        "secret": CANARY,
                    }
                ]
            },
            "notify": {"finishes": ["ops@example.org"]},
        }
        job_id = rest.enqueue("told", spec)["jobId"]
        assert rest.wait_job(job_id)["state"] == "FAILED"
        wait_until(lambda: receiver.calls, 60)
        wait_until(lambda: delivery(rest, job_id, "EMAIL")["state"] == "DELIVERED", 60)
        pending = delivery(rest, job_id, "WEBHOOK")
        assert (pending["state"], pending["event"], pending["outcome"]) == ("PENDING", "FAILS", "FAILED")

        farm.kill_all()
        receiver.works = True
        farm.start()
        wait_until(lambda: delivery(rest, job_id, "WEBHOOK")["state"] == "DELIVERED", 90)

        told = delivery(rest, job_id, "WEBHOOK")
        assert (told["responseCode"], told["error"], told["nextAttemptAt"]) == (200, "", None)
        assert told["target"] == receiver.url.replace("//", "//bob:[redacted]@")
        assert {headers["EasyQ-Delivery"] for headers, _ in receiver.calls} == {told["deliveryId"]}
        headers, body = receiver.calls[-1]
        at = headers["EasyQ-Signature"].partition(",")[0].removeprefix("t=")
        signed = hmac.new(CANARY.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["EasyQ-Signature"] == f"t={at},v1={signed}"
        assert headers["X-Api"] == CANARY
        assert CANARY.encode() not in body

        (mail,) = mails.mails
        assert mail["Subject"].endswith("told: FAILED (exit code 3)")
        assert f"https://jobs.test/tasks/told/jobs/{job_id}" in mail.as_string()
        assert "it broke" in mail.as_string()
        assert "using [redacted]" in mail.as_string()
        assert CANARY not in mail.as_string()

        # Once more, by hand.
        before = len(receiver.calls)
        again = rest.post(f"/jobs/{job_id}/deliveries/{told['deliveryId']}/resend")
        assert again["delivery"]["deliveryId"] == told["deliveryId"]
        wait_until(lambda: len(receiver.calls) == before + 1, 60)

        for path in (f"/jobs/{job_id}", "/jobs", f"/jobs/{job_id}/deliveries", f"/jobs/{job_id}/executions", "/status"):
            assert CANARY.encode() not in rest.call("GET", path).body, path
        assert CANARY not in farm.log + farm.stdout
        assert rest.call("DELETE", f"/jobs/{job_id}").status == 200
        assert rest.call("GET", f"/jobs/{job_id}/deliveries").status == 404
