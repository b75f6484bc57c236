"""Presence: who is online or away, over several devices and processes.

What it means. A connection begins as online and may say that it is away, or that it counts for nothing (`offline`: its
user wants to be left alone). A connection that is lost counts on as it was for PRESENCE_GRACE_SECONDS. A user is
online if any of their connections counts as online, else away if any counts as away, else offline.

How it is kept (docs/adr/0012-presence.md). Redis holds one entry for each user and process, not for each connection,
and one lease for each process: a heartbeat is one command for each tenant, whatever the number of connections. The
users of a process whose lease is over are taken off it by the others. What a process says of its users is absolute, so
that anything may be said again, and is, whenever the store does not hold what was said last.

    keeper       what this process has and tells the store, and when
    store        the event loop's side of the store
    scripts      keys and Lua
    announcing   telling watchers
    told         what this process's watchers were told last
    reader       messaging's port, for request threads and workers
"""
