"""What containers write down themselves, in a folder of the host: proof that does not come from EasyQ."""

from collections import Counter
from pathlib import Path

TARGET = "/witness"


class Witness:
    """`folder` must lie below a root that the agents allow; containers see it as /witness.

    The lines below are shell, to stand in a container's script. A line is written by one `write` to a file opened
    for appending, so that lines of many containers never mix.
    """

    START = f'echo "start $EASYQ_EXECUTION_ID $EASYQ_FENCE" >> {TARGET}/trace'
    END = f'echo "end $EASYQ_EXECUTION_ID $EASYQ_FENCE" >> {TARGET}/trace'

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Containers may run as any user.
        folder.chmod(0o777)
        self.trace = folder / "trace"

    @property
    def mounts(self) -> list[dict[str, object]]:
        """For the `mounts` of a spec."""
        return [{"source": str(self.folder), "target": TARGET}]

    def starts(self) -> Counter[str]:
        """How often each execution's program began."""
        return self._count("start")

    def ends(self) -> Counter[str]:
        """How often each execution's program came to its last line."""
        return self._count("end")

    def _count(self, word: str) -> Counter[str]:
        if not self.trace.exists():
            return Counter()
        lines = [line.split() for line in self.trace.read_text(encoding="ascii").splitlines()]
        return Counter(line[1] for line in lines if line[0] == word)

    def assert_none_twice(self) -> None:
        twice = {execution: count for execution, count in self.starts().items() if count > 1}
        assert not twice, f"containers ran twice: {twice}"
