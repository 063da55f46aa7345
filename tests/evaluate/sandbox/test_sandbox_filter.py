"""The filter of system calls, interpreted: what it answers on both architectures."""

import struct

import pytest

from yxanul.evaluate.sandbox.jail.seccomp import filter_code
from yxanul.evaluate.sandbox.jail.syscalls import ALLOWED, CHECKED, number

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ADDRESS, PID = 0x7FFE12345678, 4321
# fork, vfork, clone, clone3, socket, ptrace, mount, unshare, bpf, memfd_create, chmod, mkdirat,
# process_vm_readv, execveat, setns, prctl
REFUSED = {
    "x86_64": [57, 58, 56, 41, 101, 165, 272, 321, 319, 90, 258, 310, 322, 308, 157],
    "aarch64": [220, 198, 117, 40, 97, 280, 279, 53, 34, 270, 281, 268, 167],
}
YOUNG = {"clone3": 435, "io_uring_setup": 425, "openat2": 437, "pidfd_open": 434}


def answer(code: bytes, data: bytes) -> int:
    """Interpret the five instructions of classic BPF that the filter uses."""
    lines = list(struct.iter_unpack("<HBBI", code))
    at = value = 0
    while True:
        operation, yes, no, operand = lines[at]
        at += 1
        if operation == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x54:
            value &= operand
        elif operation == 0x15:
            at += yes if value == operand else no
        elif operation == 0x35:
            at += yes if value >= operand else no
        else:
            assert operation == 6
            return operand


def asked(architecture: str, call: int, *arguments: int, table: int | None = None) -> int:
    code = filter_code(architecture, PID, execve_address=ADDRESS)
    words = [a & 0xFFFFFFFFFFFFFFFF for a in (*arguments, *[0] * 6)][:6]
    kind = ARCHITECTURES[architecture] if table is None else table
    return answer(code, struct.pack("<iIQ6Q", call, kind, 0, *words))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_listed_is_allowed_and_what_is_not_is_refused(architecture):
    listed = {number(pair, architecture) for pair in [*ALLOWED.values(), *CHECKED.values()]}
    plain = {number(pair, architecture) for pair in ALLOWED.values()} - {None}
    assert {asked(architecture, call) for call in plain} == {ALLOW}
    assert {asked(architecture, call) for call in REFUSED[architecture]} == {EPERM}
    assert {asked(architecture, call) for call in set(range(424)) - listed} == {EPERM}
    assert {asked(architecture, call) for call in YOUNG.values()} == {ENOSYS}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_another_table_of_calls_ends_the_process(architecture):
    others = [0x40000003, 0x40000028, *set(ARCHITECTURES.values()) - {ARCHITECTURES[architecture]}]
    assert {asked(architecture, 0, table=other) for other in others} == {KILL}
    assert asked(architecture, 0x40000000) == KILL
    assert asked(architecture, -1) == KILL


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_some_calls_are_allowed_for_certain_arguments_only(architecture):
    def ask(name: str, *arguments: int) -> int:
        return asked(architecture, number(CHECKED[name], architecture), *arguments)

    assert ask("kill", PID) == ALLOW
    assert [ask("kill", pid) for pid in (0, -1, 1, -PID, PID + 1)] == [EPERM] * 5
    assert [ask("prlimit64", pid) for pid in (0, PID, 1)] == [ALLOW, ALLOW, EPERM]
    assert [ask("fcntl", 3, command) for command in (1, 8, 10, 1031)] == [ALLOW, *[EPERM] * 3]
    assert [ask("ioctl", 0, request) for request in (0x5401, 0x5412)] == [ALLOW, EPERM]
    assert [ask("openat", 0, 0, flags) for flags in (0, 0o1000, 0o1001)] == [ALLOW, EPERM, ALLOW]
    addresses = (ADDRESS, ADDRESS + 1, ADDRESS & 0xFFFFFFFF, ADDRESS ^ (1 << 40), 0)
    assert [ask("execve", address) for address in addresses] == [ALLOW, *[EPERM] * 4]
