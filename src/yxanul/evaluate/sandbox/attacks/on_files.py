"""Attacks on files outside the program's own folder, and on what the harness holds open."""

from yxanul.evaluate.sandbox.attacks.attack import Attack

_PROGRAMS = {
    "read a secret file": "assert open($outside + '/secret').read()",
    "read the list of users": "assert open('/etc/passwd').read()",
    "list a folder": "import os; os.listdir($outside)",
    "list the processes": "import os; assert any(n.isdigit() for n in os.listdir('/proc'))",
    "read the harness's environment": "open('/proc/$harness/environ', 'rb').read()",
    "open the harness's memory": "open('/proc/$harness/mem', 'rb')",
    "open its own memory": "open('/proc/self/mem', 'r+b')",
    "open the harness's descriptors": "import os; os.listdir('/proc/$harness/fd')",
    "write outside": "open($outside + '/new', 'w').write('x')",
    "overwrite a file": "open($outside + '/secret', 'r+').write('x')",
    "truncate a file": "import os; os.truncate($outside + '/secret', 0)",
    "truncate a file that is only read": """
import os
open('own', 'w').write('x')
os.open('own', os.O_RDONLY | os.O_TRUNC)
assert os.path.getsize('own') == 0
""",
    "delete a file": "import os; os.unlink($outside + '/secret')",
    "take a file by renaming": "import os; os.rename($outside + '/secret', 'mine')",
    "put a file outside by renaming": """
import os
open('mine', 'w').write('x')
os.rename('mine', $outside + '/mine')
""",
    "read through a symbolic link": """
import os
os.symlink($outside + '/secret', 'mine')
assert open('mine').read()
""",
    "read through a hard link": """
import os
os.link($outside + '/secret', 'mine')
assert open('mine').read()
""",
    "make a folder outside": "import os; os.mkdir($outside + '/new')",
    "make a folder inside": "import os; os.mkdir('new')",
    "change a mode": "import os; os.chmod($outside + '/secret', 0o777)",
    "change an owner": "import os; os.chown($outside + '/secret', os.getuid(), os.getgid())",
    "change a time": "import os; os.utime($outside + '/secret', (0, 0))",
    "set an attribute": "import os; os.setxattr($outside + '/secret', 'user.x', b'x')",
    "make a named pipe": "import os; os.mkfifo('pipe')",
    "use the machine's temporary folder": """
import os, tempfile
os.unlink(tempfile.mkstemp(dir='/tmp')[1])
""",
    "use the machine's shared memory": """
import os, tempfile
os.unlink(tempfile.mkstemp(dir='/dev/shm')[1])
""",
    "look into the harness's folder by a link of /proc": """
import os
assert os.readlink('/proc/$harness/cwd')
""",
}
_ROOTS = {
    "change the root": "import os; os.chroot('.')",
    "make a device": "import os, stat; os.mknod('disk', stat.S_IFBLK | 0o600, os.makedev(254, 0))",
}
# The harness gives none of this to any program, at any level.
_NEVER_GIVEN = {
    "find a word in the environment": "import os; assert set(os.environ) - {'LC_CTYPE'}",
    "read the harness's standard input": "import sys; assert sys.stdin.read()",
    "use an inherited descriptor": """
import os
found = []
for descriptor in range(5, 4096):
    try:
        os.fstat(descriptor)
        found.append(descriptor)
    except OSError:
        pass
assert found
""",
    "import a package of the harness": """
import sys
try:
    import yxanul
except ImportError:
    assert any('-packages' in path for path in sys.path)
""",
}

ATTACKS = [
    *(Attack(name, program, control=True) for name, program in _PROGRAMS.items()),
    *(Attack(name, program, control=True, needs_root=True) for name, program in _ROOTS.items()),
    *(Attack(name, program) for name, program in _NEVER_GIVEN.items()),
]
