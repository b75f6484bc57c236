"""Settings: one file per concern, in the order in which they depend on each other."""

from messagecore.settings.cache import *  # noqa: F403
from messagecore.settings.core import *  # noqa: F403
from messagecore.settings.database import *  # noqa: F403
from messagecore.settings.files import *  # noqa: F403
from messagecore.settings.log import *  # noqa: F403
from messagecore.settings.realtime import *  # noqa: F403
from messagecore.settings.rest import *  # noqa: F403
from messagecore.settings.security import *  # noqa: F403
from messagecore.settings.storage import *  # noqa: F403
from messagecore.settings.tasks import *  # noqa: F403
