"""Users, groups, projects, members, robots and the cluster's settings of the management API, put together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from twinhull.auth.passwords import PasswordChecker
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.catalog.accounts import Users
from twinhull.catalog.configurations import Configurations
from twinhull.catalog.documents import Documents
from twinhull.catalog.projects import Projects
from twinhull.catalog.quotas import Quotas
from twinhull.catalog.robots import Robots
from twinhull.catalog.user_groups import UserGroups
from twinhull.harbor.access import Access
from twinhull.harbor.configurations import ConfigurationsApi
from twinhull.harbor.ldap import LdapApi
from twinhull.harbor.members import MembersApi
from twinhull.harbor.metadatas import MetadatasApi
from twinhull.harbor.oidc import OidcPingApi
from twinhull.harbor.permissions import PermissionsApi
from twinhull.harbor.projects import ProjectsApi
from twinhull.harbor.quotas import QuotasApi
from twinhull.harbor.robot_settings import RobotSettings
from twinhull.harbor.robots import RobotsApi
from twinhull.harbor.robots_v1 import RobotsV1Api
from twinhull.harbor.routes import Subject
from twinhull.harbor.user_groups import UserGroupsApi
from twinhull.harbor.users import UsersApi
from twinhull.metadata.store import Store
from twinhull.node.vouching import Vouching
from twinhull.web.middleware import Forwarding


def people_subjects(
    *,
    access: Access,
    store: Store,
    executor: Executor,
    guard: Guard,
    passwords: PasswordChecker,
    sealer: Sealer,
    forwarding: Forwarding,
    vouching: Vouching,
) -> Sequence[Subject]:
    """Return who there is and what they may do."""
    documents = Documents(store=store, executor=executor)
    projects = Projects(store=store, executor=executor)
    robots = Robots(store=store, executor=executor, passwords=passwords)
    robot_settings = RobotSettings(guard)
    users = Users(store=store, executor=executor, passwords=passwords)
    return [
        ConfigurationsApi(access=access, configurations=Configurations(store=store, executor=executor, sealer=sealer)),
        UsersApi(access=access, users=users, guard=guard, forwarding=forwarding, oidc=vouching.oidc),
        OidcPingApi(access=access, oidc=vouching.oidc),
        LdapApi(access=access, sign_in=vouching.sign_in),
        UserGroupsApi(access=access, groups=UserGroups(documents), sign_in=vouching.sign_in),
        PermissionsApi(access),
        ProjectsApi(access=access, projects=projects, guard=guard),
        MetadatasApi(access=access, projects=projects),
        QuotasApi(access=access, quotas=Quotas(documents)),
        MembersApi(access=access, projects=projects, sign_in=vouching.sign_in),
        RobotsApi(access=access, robots=robots, settings=robot_settings),
        RobotsV1Api(access=access, robots=robots, settings=robot_settings),
    ]
