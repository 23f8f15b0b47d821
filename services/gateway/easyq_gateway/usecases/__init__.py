"""What the API does, one file per kind of doing.

They speak the public messages: translating those to other services is all that the gateway does. Each starts with
`Checker.require`, to which REST hands the problems that its codec has found already.
"""
