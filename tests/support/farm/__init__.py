"""EasyQ as its users run it, and witnesses of what it does that don't ask it.

`UpFarm` is `easyq up`; `SplitFarm` the services as commands of their own. `Rest` talks to either. `Witness` is what
containers themselves write down, `DockerObserver` what their daemons say, `Program` what a container does and what
must come of it.
"""

from tests.support.farm.observer import DockerObserver
from tests.support.farm.programs import Program, chatty, counted, shell
from tests.support.farm.rest import Answer, Rest
from tests.support.farm.split import SplitFarm
from tests.support.farm.up import UpFarm
from tests.support.farm.witness import Witness

__all__ = [
    "Answer",
    "DockerObserver",
    "Program",
    "Rest",
    "SplitFarm",
    "UpFarm",
    "Witness",
    "chatty",
    "counted",
    "shell",
]
