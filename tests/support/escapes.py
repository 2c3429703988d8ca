"""The known ways out of a container, one by one, as a hostile function would try them.

Each move is a name, where it is known from, and Python that the puppet runs in a child of its own. It says in `answer` how it
was refused; what begins with ESCAPED got through. A child that is killed for trying has not escaped either.
"""

# At hand in every move. `call` answers a system call's result and errno; `denied` runs calls of which none may succeed;
# `writes` and `reads` try files that nobody inside may write or read.
PREAMBLE = r"""
import ctypes, errno, fcntl, glob, mmap, os, signal, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(number, *arguments):
    ctypes.set_errno(0)
    def convert(a):
        return a if not isinstance(a, (int, str)) else ctypes.c_char_p(a.encode()) if isinstance(a, str) else ctypes.c_long(a)
    return libc.syscall(ctypes.c_long(number), *map(convert, arguments)), ctypes.get_errno()

def denied(*calls):
    said = []
    for number, *arguments in calls:
        result, error = call(number, *arguments)
        if result != -1:
            return f'ESCAPED: call {number} {arguments} gave {result}'
        said.append(errno.errorcode.get(error, error))
    return f'refused: {said}'

def opens(flags, paths):
    said = {}
    for path in paths:
        try:
            file = os.open(path, flags | os.O_NONBLOCK)
        except OSError as error:
            said[path] = errno.errorcode.get(error.errno)
            continue
        os.close(file)
        return f'ESCAPED: {path} is open'
    return f'refused: {said}'

def writes(*paths): return opens(os.O_WRONLY, paths)
def reads(*paths): return opens(os.O_RDONLY, paths)

def sockets(*wanted):
    said = []
    for words in wanted:
        try:
            socket.socket(*words).close()
        except OSError as error:
            said.append(errno.errorcode.get(error.errno))
            continue
        return f'ESCAPED: socket {words}'
    return f'refused: {said}'
"""

# name | known from | what is tried
_TABLE = r"""
overwrite-the-program | CVE-2019-5736, runc | answer = writes('/proc/self/exe', '/proc/1/exe', '/var/task/bootstrap')
memory-of-the-supervisor | proc(5), mem | answer = opens(os.O_RDWR, ['/proc/1/mem']) + reads('/proc/1/mem', '/proc/1/maps', '/proc/1/environ', '/proc/1/auxv', '/proc/1/syscall', '/proc/1/stack')
root-of-the-supervisor | CVE-2019-10152, /proc/PID/root | answer = reads('/proc/1/root/', '/proc/1/cwd/', '/proc/1/exe')
descriptors-of-the-supervisor | CVE-2024-21626, leaked descriptors | answer = reads('/proc/1/fd', '/proc/1/fdinfo', '/proc/1/map_files')
signals-to-the-platform | kill(2) | answer = 'refused' if not [p for p in range(2, 400) if p != os.getpid() and not os.path.exists(f'/proc/{p}') and call(62, p, 0)[0] == 0] else 'ESCAPED: processes that it does not see'
sysrq | container-escape cookbooks | answer = writes('/proc/sysrq-trigger', '/proc/sys/kernel/sysrq')
core-pattern | CVE-2022-4415, piped core dumps | answer = writes('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/core_pipe_limit')
modprobe-path | kernel.modprobe | answer = writes('/proc/sys/kernel/modprobe', '/proc/sys/kernel/hotplug', '/proc/sys/kernel/poweroff_cmd')
uevent-helper | /sys/kernel/uevent_helper | answer = writes('/sys/kernel/uevent_helper', '/sys/class/mem/null/uevent')
binfmt-misc | binfmt_misc registration | answer = writes('/proc/sys/fs/binfmt_misc/register', '/proc/sys/fs/binfmt_misc/status')
every-setting-of-the-kernel | /proc/sys | answer = writes(*[f for d, _, fs in os.walk('/proc/sys') for f in (os.path.join(d, x) for x in fs) if 'ns_last_pid' not in f][:3000])[:200]
every-file-of-proc | /proc/irq, /proc/bus, /proc/mtrr, /proc/timer_list | answer = writes(*[f for f in glob.glob('/proc/*') + glob.glob('/proc/irq/*/*') + glob.glob('/proc/bus/*/*/*') + glob.glob('/proc/fs/*/*') + glob.glob('/proc/driver/*') if os.path.isfile(f)])[:200]
memory-of-the-kernel | /proc/kcore, /dev/mem | answer = reads('/proc/kcore', '/dev/mem', '/dev/kmem', '/dev/port', '/proc/kpagecount', '/proc/kpageflags', '/dev/kmsg', '/proc/kmsg', '/dev/crash')
addresses-of-the-kernel | kptr_restrict | answer = 'refused' if not [l for l in open('/proc/kallsyms') if int(l.split()[0], 16)] else 'ESCAPED: addresses show'
release-agent | CVE-2022-0492 | answer = denied((272, 0x10000000 | 0x02000000 | 0x20000), (165, 'x', '/tmp', 'cgroup', 0, 'rdma'), (165, 'x', '/tmp', 'cgroup2', 0, 0)) + writes(*glob.glob('/sys/fs/cgroup/*/release_agent'), '/sys/fs/cgroup/release_agent')
own-control-group | cgroups(7) | answer = writes('/sys/fs/cgroup/cgroup.procs', *glob.glob('/sys/fs/cgroup/*'), *glob.glob('/sys/fs/cgroup/*/*'))
disks-and-devices | mknod-less /dev | answer = opens(os.O_RDWR, ['/dev/sda', '/dev/vda', '/dev/nvme0n1', '/dev/loop0', '/dev/loop-control', '/dev/dm-0', '/dev/mapper/control', '/dev/fuse', '/dev/kvm', '/dev/net/tun', '/dev/vhost-net', '/dev/vhost-vsock', '/dev/vsock', '/dev/uinput', '/dev/input/event0', '/dev/tty', '/dev/tty0', '/dev/console', '/dev/ptmx', '/dev/snapshot', '/dev/userfaultfd', '/dev/autofs', '/dev/cuse', '/dev/btrfs-control', '/dev/rfkill', '/dev/dri/card0', '/dev/binder'])
mknod-of-a-disk | mknod(2) | answer = denied((133, '/tmp/d1', 0o60666, 0x800), (133, '/tmp/d2', 0o60666, 0xfe00), (133, '/tmp/d3', 0o20666, 0x101), (259, -100, '/tmp/d4', 0o60666, 0x800))
shocker | CVE-2014-9357 era, open_by_handle_at | answer = denied((304, os.open('/', os.O_RDONLY), struct.pack('IIQ', 8, 1, 2), 0), (303, -100, '/', bytes(200), bytes(8), 0))
ptrace-the-supervisor | ptrace(2) | answer = denied((101, 16, 1, 0, 0), (101, 0x4206, 1, 0, 0), (101, 0, 0, 0, 0))
memory-across-processes | process_vm_readv(2) | answer = denied((310, 1, struct.pack('QQ', id(1), 8), 1, struct.pack('QQ', 4096, 8), 1, 0), (311, 1, 0, 0, 0, 0, 0), (440, 0, 0, 0, 21, 0), (279, 1, 0, 0, 0, 0, 0), (256, 1, 0, 0, 0))
descriptors-across-processes | pidfd_getfd(2), kcmp(2) | answer = denied((438, call(434, 1, 0)[0], 0, 0), (312, 1, os.getpid(), 0, 0, 0))
namespaces-by-pidfd | setns(2) | answer = denied((308, call(434, 1, 0)[0], 0x7e020080), (308, os.open('/proc/self/ns/mnt', os.O_RDONLY), 0), (308, os.open('/proc/self/ns/user', os.O_RDONLY), 0))
new-namespaces | CVE-2021-3493, CVE-2022-0185, CVE-2023-0386 | answer = denied(*[(272, flag) for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)])
new-namespaces-by-clone | clone(2) | answer = denied(*[(56, flag | 17, 0, 0, 0, 0) for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)])
new-namespaces-by-clone3 | clone3(2) | answer = denied((435, struct.pack('11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88))
identity-maps | CVE-2018-18955, uid_map | answer = writes('/proc/1/uid_map', '/proc/1/gid_map') + ('' if all(not os.path.exists(p) or _one(p) for p in ('/proc/self/uid_map', '/proc/self/gid_map', '/proc/self/setgroups')) else 'ESCAPED')
become-root | setuid(2) | answer = denied((105, 0), (106, 0), (117, 0, 0, 0), (119, 0, 0, 0), (113, -1, 0), (116, 1, struct.pack('I', 0)))
capabilities | CVE-2022-0492 era, capset | answer = denied((126, struct.pack('II', 0x20080522, 0), struct.pack('6I', *[0xffffffff] * 6)), (157, 47, 2, 21, 0, 0), (157, 38, 0, 0, 0, 0), (157, 28, 0x3f, 0, 0, 0))
mounts | mount(2) | answer = denied((165, 'proc', '/tmp', 'proc', 0, 0), (165, 'x', '/tmp', 'tmpfs', 0, 0), (165, '/usr', '/usr', 0, 4096 | 32, 0), (165, 'overlay', '/tmp', 'overlay', 0, 'lowerdir=/usr,upperdir=/tmp,workdir=/tmp'), (165, '/proc/1/root', '/tmp', 0, 4096, 0))
mounts-of-the-new-kind | CVE-2022-0185, fsconfig | answer = denied((430, 'tmpfs', 0), (431, -1, 0, 0, 0, 0), (432, -1, 0, 0), (433, -100, '/', 0), (428, -100, '/', 1), (429, -100, '/tmp', -100, '/usr', 0), (442, -100, '/usr', 0x8000, bytes(32), 32), (467, -100, '/', 1, bytes(32), 32))
look-at-mounts | statmount(2), listmount(2) | answer = denied((457, bytes(32), bytes(4096), 4096, 0), (458, bytes(32), bytes(4096), 64, 0), (470, bytes(64), bytes(64), 8, 0))
uncover | umount2(2) | answer = denied((166, '/proc', 2), (166, '/tmp', 2), (166, '/', 2), (155, '.', '.'))
chroot-and-back | chroot(2), "breaking out of chroot" | answer = denied((161, '/tmp')) + ('' if os.path.samefile('/', '/../../../..') else 'ESCAPED')
working-folder-and-back | CVE-2024-21626 | answer = 'refused' if os.path.realpath('/proc/self/cwd/../../../../..') == '/' and not os.path.exists('/proc/self/cwd/../../../../../root/.ssh') and not os.path.exists('/home/user') else 'ESCAPED'
folders-among-descriptors | CVE-2024-21626 | answer = 'refused' if not [f for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f) and stat.S_ISDIR(os.stat('/proc/self/fd/' + f).st_mode) and not os.readlink('/proc/self/fd/' + f).startswith('/proc/')] else 'ESCAPED: a folder is open'
another-kernel | kexec_load(2) | answer = denied((246, 0, 0, 0, 0), (320, -1, -1, 0, '', 0))
modules | init_module(2) | answer = denied((175, bytes(64), 64, ''), (313, -1, '', 0), (176, 'x', 0))
stop-the-host | reboot(2) | answer = denied((169, 0xfee1dead, 672274793, 0x89abcdef, 0), (169, 0xfee1dead, 672274793, 0x1234567, 0))
ports-of-the-machine | iopl(2) | answer = denied((172, 3), (173, 0x70, 2, 1))
segments | CVE-2015-5157, modify_ldt | answer = denied((154, 1, bytes(16), 16), (205, bytes(16)) if False else (154, 0x11, bytes(16), 16))
terminal-input | CVE-2017-5226, TIOCSTI; CVE-2019-10063, its 64-bit twin; CVE-2023-28100, TIOCLINUX | answer = denied((16, 0, 0x5412, b'x'), (16, 0, 0x100005412, b'x'), (16, 0, 0x541c, bytes(8)), (16, 0, 0xffffffff0000541c, bytes(8)))
programs-for-the-kernel | CVE-2020-8835, CVE-2021-3490, bpf | answer = denied((321, 5, bytes(120), 120), (321, 0, struct.pack('IIII', 1, 4, 4, 1) + bytes(104), 120), (317, 1, 8, struct.pack('HHIQ', 0, 0, 0, 0)))
io-uring | CVE-2022-29582, CVE-2023-2598 | answer = denied((425, 8, bytes(120)), (426, -1, 0, 0, 0, 0, 0), (427, -1, 0, 0, 0))
page-faults | CVE-2016-6516 era, userfaultfd | answer = denied((323, 0), (323, 1))
performance-counters | CVE-2013-2094 | answer = denied((298, struct.pack('IIQ', 0, 120, 0) + bytes(104), 0, -1, -1, 0), (298, struct.pack('IIQ', 1, 120, 0) + bytes(104), -1, 0, -1, 0))
keyrings | CVE-2016-0728, CVE-2016-4470 | answer = denied((250, 1, 'x', 0, 0, 0), (250, 22, -1, -5, 0, 0), (250, 0, -4, 1, 0, 0), (248, 'user', 'x', b'y', 1, -4), (249, 'user', 'x', 'y', -4))
keys-of-the-host | /proc/keys | answer = 'refused' if not os.path.exists('/proc/keys') or not [l for l in open('/proc/keys') if 'onrush-test' in l] else 'ESCAPED'
log-of-the-kernel | dmesg_restrict | answer = denied((103, 3, bytes(4096), 4096), (103, 5, 0, 0), (103, 10, 0, 0))
clocks | clock_settime(2), adjtimex(2) | answer = denied((164, struct.pack('qq', 1, 0), 0), (227, 0, struct.pack('qq', 1, 0)), (159, bytes(208)), (305, 0, bytes(208)))
names-of-the-host | sethostname(2) | answer = denied((170, 'pwned', 5), (171, 'pwned', 5))
quotas-swap-accounting | quotactl(2), swapon(2), acct(2) | answer = denied((179, 0x80000200, '/dev/vda', 0, 0), (443, 0, 0x80000200, 0, 0), (167, '/tmp/x', 0), (168, '/tmp/x'), (163, '/tmp/x'))
watch-the-file-system | fanotify_init(2) | answer = denied((300, 0, 0), (300, 0x200, 0), (153,))
real-time | sched_setscheduler(2), ioprio_set(2) | answer = denied((144, 0, 1, struct.pack('I', 99)), (144, 0, 2, struct.pack('I', 1)), (314, 0, struct.pack('IIQiIQQQ', 48, 6, 0, 0, 0, 9000000, 10000000, 10000000), 0), (141, 0, 0, -20), (251, 1, 0, (1 << 13) | 0))
better-oom-score | oom_score_adj | answer = 'refused' if _worse() else 'ESCAPED'
limits-raised | prlimit64(2) | answer = denied((302, 1, 7, struct.pack('QQ', 1 << 30, 1 << 30), 0), (302, 0, 7, struct.pack('QQ', 1 << 30, 1 << 30), 0), (302, 0, 4, struct.pack('QQ', 1 << 30, 1 << 30), 0))
packets-by-hand | CVE-2017-7308, CVE-2020-14386, AF_PACKET | answer = sockets((17, 3, 768), (17, 2, 768), (2, 3, 1), (2, 3, 255), (10, 3, 58))
hypervisor | AF_VSOCK | answer = sockets((40, 1, 0), (40, 2, 0))
odd-families | CVE-2010-3904 RDS, CVE-2010-2959 CAN, CVE-2021-43267 TIPC, CVE-2020-12351 Bluetooth, AF_ALG, AF_XDP, AF_KEY, QIPCRTR, SMC | answer = sockets((21, 5, 0), (29, 3, 1), (30, 1, 0), (30, 4, 0), (31, 3, 1), (38, 5, 0), (44, 3, 0), (15, 3, 2), (42, 2, 0), (43, 1, 0), (3, 5, 0), (4, 2, 0), (5, 2, 0), (9, 5, 0), (19, 2, 0), (24, 1, 0), (33, 2, 0), (36, 2, 0), (39, 1, 0))
odd-families-in-pairs | CVE-2021-43267, socketpair loads the module | answer = denied((53, 30, 1, 0, bytes(8)), (53, 30, 5, 0, bytes(8)), (53, 21, 5, 0, bytes(8)), (53, 31, 1, 0, bytes(8)))
odd-protocols | CVE-2017-6074 DCCP, CVE-2021-23133 SCTP, CVE-2022-4129 L2TP | answer = sockets((2, 6, 33), (10, 6, 33), (2, 1, 132), (2, 5, 132), (10, 1, 132), (2, 2, 115), (10, 2, 115), (2, 2, 136))
odd-netlink | CVE-2022-32250 nf_tables, CVE-2017-16939 xfrm, audit, uevents | answer = sockets((16, 3, 12), (16, 3, 6), (16, 3, 9), (16, 3, 15), (16, 3, 10), (16, 3, 18), (16, 3, 5), (16, 3, 2), (16, 3, 20), (16, 3, 21))
own-network-changed | rtnetlink(7), netdevice(7) | answer = _network()
settings-of-sockets | IP_TRANSPARENT, SO_MARK, SO_BINDTODEVICE, SO_PRIORITY, SO_RCVBUFFORCE | answer = _options()
foreign-source-address | IP_FREEBIND | answer = _freebind()
abstract-socket-of-the-host | CVE-2020-15257, containerd-shim | answer = _abstract(event['abstract'])
host-by-loopback | host network | answer = _connects([('127.0.0.1', event['port']), ('127.0.0.1', 22), ('0.0.0.0', event['port']), ('169.254.169.254', 80), ('169.254.170.2', 80)])
shared-memory-of-the-host | shmget(2), mq_open(3) | answer = denied((29, event['shared'], 4096, 0), (64, event['shared'], 1, 0), (68, event['shared'], 0), (240, 'onrush-test', 0, 0, 0))
link-into-the-host | symlink attacks on whoever reads /tmp | answer = _links()
hard-link-to-a-setuid-program | protected_hardlinks | answer = _hard_link()
setuid-programs | nosuid, no_new_privs | answer = _setuid(event.get('setuid'))
attributes-that-give-rights | CVE-2018-18955 era, security.capability, trusted.overlay | answer = _attributes()
program-without-a-file | memfd_create(2), fexecve(3) | answer = _memfd()
dirty-cow | CVE-2016-5195 | answer = _dirty_cow()
dirty-pipe | CVE-2022-0847 | answer = _dirty_pipe()
calls-of-32-bits | int 0x80, another call table | answer = _machine_code(bytes.fromhex('b815000000cd80c3'))
calls-of-x32 | CVE-2014-0038, x32 | answer = denied((0x40000000 + 165, 'x', '/tmp', 'tmpfs', 0, 0), (0x40000000 + 101, 16, 1, 0, 0), (0x40000000 + 56, 0x10000011, 0, 0, 0, 0))
another-filter-on-top | seccomp(2) | answer = _refilter()
calls-that-are-too-new | calls past what is known | answer = denied(*[(n, 0, 0, 0, 0, 0, 0) for n in range(467, 512)])
core-dump | RLIMIT_CORE, piped core dumps | answer = _core()
swap-folder-and-link | CVE-2021-30465, mount races | answer = _race()
"""

FUNCTIONS = r"""
def _one(path):
    before = open(path).read()
    try:
        with open(path, 'w') as file:
            file.write('0 0 4294967295' if 'map' in path else 'allow')
    except OSError:
        return True
    return open(path).read() == before

def _worse():
    before = int(open('/proc/self/oom_score_adj').read())
    try:
        with open('/proc/self/oom_score_adj', 'w') as file:
            file.write('-1000')
    except OSError:
        pass
    return int(open('/proc/self/oom_score_adj').read()) >= before

def _network():
    said = []
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    # RTM_NEWLINK lo down; RTM_NEWADDR 10.9.9.9 on 1; RTM_NEWROUTE default on 1; RTM_NEWLINK a dummy.
    messages = [
        struct.pack('IHHII', 32, 16, 5, 1, 0) + struct.pack('BBHiII', 0, 0, 0, 1, 0, 1),
        struct.pack('IHHII', 32, 20, 0x605, 2, 0) + struct.pack('BBBBI', 2, 8, 0, 0, 1) + struct.pack('HH4B', 8, 2, 10, 9, 9, 9),
        struct.pack('IHHII', 36, 24, 0x605, 3, 0) + struct.pack('BBBBBBBBI', 2, 0, 0, 0, 254, 4, 253, 1, 0) + struct.pack('HHI', 8, 4, 1),
        struct.pack('IHHII', 32, 16, 0x605, 4, 0) + struct.pack('BBHiII', 0, 0, 0, 0, 0, 0),
    ]
    for message in messages:
        s.send(message)
        answer = s.recv(4096)
        error = struct.unpack_from('i', answer, 16)[0]
        if error >= 0:
            return f'ESCAPED: netlink {len(said)} gave {error}'
        said.append(errno.errorcode.get(-error))
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for request, name in ((0x8914, b'lo'), (0x8914, b'eth0'), (0x8916, b'eth0'), (0x8924, b'eth0'), (0x8922, b'eth0')):
        try:
            fcntl.ioctl(u, request, struct.pack('16sH14s', name, 0, bytes(14)))
            return f'ESCAPED: ioctl {request:#x}'
        except OSError as error:
            said.append(errno.errorcode.get(error.errno))
    return f'refused: {said}'

def _options():
    said = []
    for level, name, value in ((0, 19, 1), (1, 36, 7), (1, 12, 7), (1, 33, 1 << 28), (1, 32, 1 << 28), (0, 35, 0)):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            if name != 35:
                s.setsockopt(level, name, value)
                return f'ESCAPED: option {level} {name}'
        except OSError as error:
            said.append(errno.errorcode.get(error.errno))
    return f'refused: {said}'

def _freebind():
    # It may be bound; nothing that it sends reaches anybody: no answer comes, and the fabric counts it as spoofed.
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(0.3)
    try:
        s.setsockopt(0, 15, 1)
        s.bind(('10.255.255.254', 0))
        s.connect(('127.0.0.1', 9001))
    except OSError as error:
        return f'refused: {error}'
    return 'ESCAPED: connected from a foreign address'

def _abstract(name):
    said = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        try:
            socket.socket(socket.AF_UNIX, kind).connect('\0' + name)
            return 'ESCAPED: connected'
        except OSError as error:
            said.append(errno.errorcode.get(error.errno))
    return f'refused: {said}; ' + ('ESCAPED' if name in open('/proc/net/unix').read() else 'not listed')

def _connects(places):
    said = []
    for place in places:
        s = socket.socket()
        s.settimeout(0.3)
        try:
            s.connect(place)
            return f'ESCAPED: {place}'
        except OSError as error:
            said.append(str(error))
    return f'refused: {said}'

def _links():
    for target in ('/proc/1/root/etc/shadow', '/../../../../etc/shadow', '/proc/self/root/etc/shadow', '/etc/shadow', '/root/.ssh'):
        os.path.lexists('/tmp/out') and os.unlink('/tmp/out')
        os.symlink(target, '/tmp/out')
        try:
            os.close(os.open('/tmp/out', os.O_RDONLY))
            return f'ESCAPED: {target}'
        except OSError:
            pass
    return 'refused'

def _hard_link():
    said = []
    for path in ('/usr/bin/su', '/bin/sh', '/usr/bin/env', '/etc/passwd', '/var/task/bootstrap'):
        try:
            os.link(path, '/tmp/hard')
            return f'ESCAPED: {path}'
        except OSError as error:
            said.append(errno.errorcode.get(error.errno))
    return f'refused: {said}'

def _setuid(path):
    if not path:
        return 'refused: this host has none'
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(read, 0)
        os.execv(path, [path])
    time.sleep(0.1)
    try:
        uids = {int(u) for l in open(f'/proc/{child}/status') if l.startswith('Uid:') for u in l.split()[1:]}
    except OSError:
        uids = set()
    os.kill(child, 9)
    return 'refused' if 0 not in uids else 'ESCAPED: it runs as root'

def _attributes():
    open('/tmp/attributes', 'w').close()
    said = []
    for name in ('security.capability', 'trusted.overlay.opaque', 'security.selinux', 'system.posix_acl_access'):
        try:
            os.setxattr('/tmp/attributes', name, struct.pack('<5I', 0x2000001, 0xffffffff, 0, 0xffffffff, 0))
            if name.startswith(('security.cap', 'trusted')):
                return f'ESCAPED: {name}'
        except OSError as error:
            said.append(errno.errorcode.get(error.errno))
    return f'refused: {said}'

def _memfd():
    file = os.memfd_create('x', 0)
    os.write(file, open('/usr/bin/env', 'rb').read())
    os.fchmod(file, 0o6755)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.execve(file, ['env', 'grep', '^Uid\\|^Cap', '/proc/self/status'], {'PATH': '/usr/bin:/bin'})
    os.close(write)
    text = os.read(read, 4096).decode()
    os.waitpid(child, 0)
    uids = [l for l in text.splitlines() if l.startswith('Uid') and '0' in l.split()[1:]]
    rights = [l for l in text.splitlines() if l.startswith('Cap') and int(l.split()[1], 16)]
    return 'refused' if not uids and not rights else f'ESCAPED: {text}'

def _program():
    path = '/var/task/bootstrap'
    return path, open(path, 'rb').read()

def _dirty_cow():
    path, before = _program()
    with open(path, 'rb') as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        pointer = ctypes.addressof(ctypes.c_char.from_buffer_copy(b'x'))
        lines = [l for l in open('/proc/self/maps') if path in l and ' r--p ' in l]
        memory = open('/proc/self/mem', 'r+b', buffering=0)
        start = int(lines[-1].split('-')[0], 16)
        for _ in range(200):
            try:
                memory.seek(start)
                memory.write(b'PWNED')
            except OSError:
                break
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(4096), 4)
    return 'refused' if open(path, 'rb').read() == before else 'ESCAPED: the file changed'

def _dirty_pipe():
    path, before = _program()
    read, write = os.pipe()
    size = fcntl.fcntl(write, 1032)
    for _ in range(size // 4096):
        os.write(write, bytes(4096))
    for _ in range(size // 4096):
        os.read(read, 4096)
    file = os.open(path, os.O_RDONLY)
    os.splice(file, write, 1, offset_src=0)
    os.write(write, b'PWNED')
    return 'refused' if open(path, 'rb').read() == before else 'ESCAPED: the file changed'

def _machine_code(code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    # 21 is mount(2) there, and getpid's number is another's: any answer but death has passed by the filter.
    return f'ESCAPED: answered {run()}'

def _refilter():
    class Program(ctypes.Structure):
        _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_char_p)]
    everything = Program(1, struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
    call(317, 1, 0, ctypes.byref(everything))
    return denied((157, 22, 0, 0, 0, 0), (165, 'x', '/tmp', 'tmpfs', 0, 0), (101, 16, 1, 0, 0), (272, 0x10000000))

def _core():
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    child = os.fork()
    if child == 0:
        os.chdir('/tmp')
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        except (OSError, ValueError):
            pass
        os.kill(os.getpid(), signal.SIGSEGV)
    _, status = os.waitpid(child, 0)
    return 'refused' if hard == 0 or not os.WCOREDUMP(status) else f'ESCAPED: a core of up to {hard} bytes was written'

def _race():
    # The platform may look into /tmp at any time; whatever it does must not follow. Left to the test to see.
    os.makedirs('/tmp/swap', exist_ok=True)
    os.path.lexists('/tmp/swapped') or os.symlink('/', '/tmp/swapped')
    for _ in range(2000):
        call(316, -100, '/tmp/swap', -100, '/tmp/swapped', 2)
    return 'refused'
"""

# Runs every move in a child of its own, so that no move's end is another's.
RUN = PREAMBLE + FUNCTIONS + r"""
answer = {}
pid = os.getpid()
for name, source in event['moves'].items():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        scope = dict(globals(), event=event)
        try:
            exec(source, scope)
            said = scope['answer']
        except BaseException as error:
            said = f'ESCAPED? the move itself failed: {type(error).__name__}: {error}'
        os.write(write, str(said)[:3000].encode())
        os._exit(0)
    os.close(write)
    said = b''
    while piece := os.read(read, 4096):
        said += piece
    os.close(read)
    _, status = os.waitpid(child, 0)
    answer[name] = said.decode() or f'killed by {os.WTERMSIG(status)}'
"""


class Move:
    """One way that has worked somewhere."""

    def __init__(self, line):
        self.name, self.known_from, self.source = (part.strip() for part in line.split(" | ", 2))


MOVES = [Move(line) for line in _TABLE.strip().splitlines()]
