"""Users, groups, projects, members, robots and the cluster's settings of the management API, put together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import import_module
from typing import Final

from twinhull.auth.directory import Connect, Directory, LdapSettings
from twinhull.auth.passwords import PasswordChecker
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.catalog.accounts import Users
from twinhull.catalog.configurations import Configurations
from twinhull.catalog.documents import Documents
from twinhull.catalog.projects import Projects
from twinhull.catalog.quotas import Quotas
from twinhull.catalog.robots import Robots
from twinhull.catalog.sign_in import SignIn
from twinhull.catalog.user_groups import UserGroups
from twinhull.harbor.access import Access
from twinhull.harbor.configurations import ConfigurationsApi
from twinhull.harbor.ldap import LdapApi
from twinhull.harbor.members import MembersApi
from twinhull.harbor.metadatas import MetadatasApi
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
from twinhull.web.middleware import Forwarding

# As many requests wait for a directory at a time: one that does not answer must not hold up anything else.
_DIRECTORY_THREADS: Final = 4


def _connect(settings: LdapSettings) -> Directory:
    """Return the directory. Its client takes 16 MB and half a second to load, and most clusters have no directory."""
    client: Connect = import_module("twinhull.auth.ldap").LdapDirectory
    return client(settings)


def people_subjects(
    *,
    access: Access,
    store: Store,
    executor: Executor,
    guard: Guard,
    passwords: PasswordChecker,
    sealer: Sealer,
    forwarding: Forwarding,
) -> Sequence[Subject]:
    """Return who there is and what they may do."""
    documents = Documents(store=store, executor=executor)
    sign_in = SignIn(
        store=store,
        executor=executor,
        connect=_connect,
        directory_threads=ThreadPoolExecutor(_DIRECTORY_THREADS, thread_name_prefix="directory"),
        guard=guard,
        sealer=sealer,
    )
    guard.vouched_by(sign_in)
    projects = Projects(store=store, executor=executor)
    robots = Robots(store=store, executor=executor, passwords=passwords)
    robot_settings = RobotSettings(guard)
    users = Users(store=store, executor=executor, passwords=passwords)
    return [
        ConfigurationsApi(access=access, configurations=Configurations(store=store, executor=executor, sealer=sealer)),
        UsersApi(access=access, users=users, guard=guard, forwarding=forwarding),
        LdapApi(access=access, sign_in=sign_in),
        UserGroupsApi(access=access, groups=UserGroups(documents), sign_in=sign_in),
        PermissionsApi(access),
        ProjectsApi(access=access, projects=projects, guard=guard),
        MetadatasApi(access=access, projects=projects),
        QuotasApi(access=access, quotas=Quotas(documents)),
        MembersApi(access=access, projects=projects, sign_in=sign_in),
        RobotsApi(access=access, robots=robots, settings=robot_settings),
        RobotsV1Api(access=access, robots=robots, settings=robot_settings),
    ]
