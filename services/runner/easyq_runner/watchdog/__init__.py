"""The watchdog: the small process that `easyq runner` is, with the agent as its child.

It starts the agent again when that crashes, passes signals on, and ends what may run elsewhere by now when the lease is
lost, although the agent be frozen or dead. It imports no gRPC, no aiohttp, no pydantic.

Memory: 15 MB resident, 9 of which are the bare interpreter's (an agent: 82); ssl, where the engine is behind TLS, takes
5 more. Seen by `grep VmRSS /proc/$(pgrep -f "m easyq_runner( |$)")/status`.
"""
