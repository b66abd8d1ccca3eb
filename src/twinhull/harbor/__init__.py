"""Harbor's management API v2.0 and its token service; one file a subject, views.py the only dictionary between the words."""
