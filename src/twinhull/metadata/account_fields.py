"""What lists of users and of projects can be filtered and sorted by, in the words that Harbor's clients use."""

from __future__ import annotations

from typing import Final

from twinhull.metadata.filtering import Fields
from twinhull.metadata.tables.accounts import projects, users

USERS: Final = Fields(
    {
        "user_id": users.c.id,
        "username": users.c.name,
        "email": users.c.email,
        "realname": users.c.realname,
        "comment": users.c.comment,
        "sysadmin_flag": users.c.sysadmin,
        "creation_time": users.c.created_ms,
        "update_time": users.c.updated_ms,
    },
    order=(users.c.name,),
)
PROJECTS: Final = Fields(
    {
        "project_id": projects.c.id,
        "name": projects.c.name,
        "owner": projects.c.owner,
        "owner_name": projects.c.owner,
        "public": projects.c.public,
        "creation_time": projects.c.created_ms,
        "update_time": projects.c.updated_ms,
    },
    order=(projects.c.name,),
)
