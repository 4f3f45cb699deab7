"""The command line. Each command is a function in a file of its own; :mod:`setwise.cli.main` imports it on use.

A command takes positional-only arguments, then options as keywords, and what it writes to as
``output: OutputParameter`` (:mod:`setwise.cli.output`). It returns None or an exit code: 0 done, 75 stopped and
resumable. For a mistake of the user it raises a :class:`~setwise.errors.SetwiseError`, which becomes a message and
exit code 2.
"""
