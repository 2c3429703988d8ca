"""System calls that reach beyond the box: refused with an errno, nobody is killed for trying, and nothing happens."""

import platform

import pytest

from support.puppet import inside

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers are those of x86_64")

# Name, number, arguments. Of the first group it matters that the kernel never looks at the arguments: EPERM, ENOSYS or
# EACCES. The second group may be refused for any reason.
SHARP = """
mount 165 0 0 0 0 0
umount2 166 0 0
pivot_root 155 0 0
unshare-user 272 0x10000000
unshare-mount 272 0x00020000
clone-user 56 0x10000011 0 0 0 0
setns 308 0 0
ptrace-attach 101 16 1 0 0
bpf 321 0 0 0
kexec_load 246 0 0 0 0
init_module 175 0 0 0
finit_module 313 0 0 0
delete_module 176 0 0
reboot 169 0 0 0 0
perf_event_open 298 0 0 -1 -1 0
userfaultfd 323 0
io_uring_setup 425 8 0
keyctl 250 0 -3 1
add_key 248 0 0 0 0 -3
open_by_handle_at 304 0 0 0
mknod-device 133 /tmp/device 0o20666 0x101
fsopen 430 0 0
open_tree 428 -100 / 1
move_mount 429 -1 0 -1 0 0
"""
BLUNT = """
chroot 161 0
swapon 167 0 0
name_to_handle_at 303 -100 0 0 0 0
sethostname 170 x 1
settimeofday 164 0 0
syslog 103 3 0 0
iopl 172 3
ioperm 173 0 1 1
acct 163 0
quotactl 179 0 0 0 0
process_vm_readv 310 1 0 0 0 0 0
mount_setattr 442 -1 0 0 0 0
setuid-root 105 0
setgid-root 106 0
setresuid-root 117 0 0 0
setpriority-better 141 0 0 -20
raw-socket 41 2 3 1
packet-socket 41 17 3 3
kcmp 312 1 1 0 0 0
vhangup 153
"""

TRY = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
answer = {}
for name, (number, *arguments) in event['calls'].items():
    ctypes.set_errno(0)
    converted = [ctypes.c_char_p(a.encode()) if isinstance(a, str) else ctypes.c_long(a) for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *converted)
    if result == 0 and name.startswith('clone'):
        os._exit(0)
    answer[name] = [result, ctypes.get_errno()]
"""
EPERM, EACCES, ENOSYS = 1, 13, 38


def table(text):
    """{name: [number, argument, …]}; an argument that is no number is a text."""

    def value(word):
        return word if word[0].isalpha() or word[0] == "/" else int(word, 0)

    lines = [line.split() for line in text.splitlines() if line]
    return {name: [value(word) for word in words] for name, *words in lines}


@pytest.mark.parametrize("calls", [SHARP, BLUNT], ids=["never-looked-at", "refused"])
def test_calls_that_reach_beyond_the_box_are_refused(walls, calls):
    seen = inside(walls, TRY, calls=table(calls))
    assert not {name: result for name, (result, _) in seen.items() if result != -1}, seen
    if calls == SHARP:
        assert not {name: errno for name, (_, errno) in seen.items() if errno not in (EPERM, EACCES, ENOSYS)}, seen


def test_who_tried_goes_on_working(walls):
    before = inside(walls, "answer = count")
    inside(walls, TRY, calls=table(SHARP + BLUNT))
    assert inside(walls, "answer = count") == before + 2
