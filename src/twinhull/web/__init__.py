"""The HTTP kit that the faces share: requests, answers, errors, paging, identity, and the application that joins the faces."""
