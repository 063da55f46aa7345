"""What runs in the child: each step takes something away, then the program's interpreter starts.

Imported by a bare interpreter for every program, so these files import little and no typing.
"""
