"""The supervisor: the whole system on one machine, as `easyq up` and `easyq down`."""
