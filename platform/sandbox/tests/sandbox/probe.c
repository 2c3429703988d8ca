/* Moves that a hostile or clumsy function makes, one per word. Built static by the test that runs it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int wins;

/* A move must fail. */
static void move_(const char *name, long result) {
    if (result < 0) {
        printf("refused %s: %s\n", name, strerror(errno));
    } else {
        printf("WON %s\n", name);
        wins++;
    }
}

static long reading(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return -1;
    long result = read(fd, &byte, 1);
    int saved = errno;
    close(fd);
    errno = saved;
    if (result == 0) { errno = ENODATA; return -1; }
    return result;
}

static long writing(const char *path) {
    int fd = open(path, O_WRONLY);
    if (fd < 0) return -1;
    long result = write(fd, "1", 1);
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

static long making(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd >= 0) close(fd);
    return fd;
}

static long listing(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return -1;
    struct dirent *entry;
    long count = 0;
    while ((entry = readdir(folder))) count += entry->d_name[0] != '.';
    closedir(folder);
    if (count == 0) { errno = ENOENT; return -1; }
    return count;
}

static long low_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    long result = bind(fd, (struct sockaddr *)&address, sizeof address);
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

static long clone_flags(unsigned long flags) {
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    if (pid > 0) waitpid(pid, 0, 0);
    return pid;
}

static long clone_three(unsigned long flags) {
    struct clone_args arguments = {.flags = flags, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0) _exit(0);
    if (pid > 0) waitpid(pid, 0, 0);
    return pid;
}

static long into_namespace(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return -1;
    return setns(fd, 0);
}

static long raise_files(void) {
    struct rlimit limit = {4096, 4096};
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static long realtime(void) {
    struct sched_param parameter = {.sched_priority = 1};
    return sched_setscheduler(0, SCHED_FIFO, &parameter);
}

static long read_first_process(void) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    return process_vm_readv(1, &here, 1, &there, 1, 0);
}

static void isolation(void) {
    unsigned char zeros[256] = {0};
    struct timespec past = {1, 0};
    struct timeval past_too = {1, 0};
    move_("mount", mount("none", "/tmp", "tmpfs", 0, 0));
    move_("bind mount", mount("/usr", "/tmp", 0, MS_BIND, 0));
    move_("remount", mount(0, "/", 0, MS_REMOUNT | MS_BIND, 0));
    move_("umount", umount2("/proc", MNT_DETACH));
    move_("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    move_("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/usr", 1));
    move_("pivot_root", syscall(SYS_pivot_root, ".", "."));
    move_("chroot", chroot("/tmp"));
    move_("unshare user", unshare(CLONE_NEWUSER));
    move_("unshare mount", unshare(CLONE_NEWNS));
    move_("unshare net", unshare(CLONE_NEWNET));
    move_("clone user", clone_flags(CLONE_NEWUSER));
    move_("clone pid", clone_flags(CLONE_NEWPID));
    move_("clone3 user", clone_three(CLONE_NEWUSER));
    move_("setns net of 1", into_namespace("/proc/1/ns/net"));
    move_("setns own mount", into_namespace("/proc/self/ns/mnt"));
    move_("ptrace attach", ptrace(PTRACE_ATTACH, 1, 0, 0));
    move_("process_vm_readv", read_first_process());
    move_("memory of 1", reading("/proc/1/mem"));
    move_("environment of 1", reading("/proc/1/environ"));
    move_("descriptors of 1", listing("/proc/1/fd"));
    move_("root of 1", listing("/proc/1/root"));
    move_("bpf", syscall(SYS_bpf, 0, zeros, sizeof zeros));
    move_("perf_event_open", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
    move_("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    move_("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    move_("request_key", syscall(SYS_request_key, "user", "x", 0, -3));
    move_("userfaultfd", syscall(SYS_userfaultfd, 1));
    move_("io_uring_setup", syscall(SYS_io_uring_setup, 4, zeros));
    move_("mknod device", mknod("/tmp/device", S_IFCHR | 0666, makedev(1, 1)));
    move_("raw socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    move_("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
    move_("vsock", socket(40, SOCK_STREAM, 0));
    move_("alg socket", socket(38, SOCK_SEQPACKET, 0));
    move_("port 80", low_port());
    move_("sethostname", sethostname("mine", 4));
    move_("reboot", reboot(RB_DISABLE_CAD));
    move_("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    move_("init_module", syscall(SYS_init_module, "x", 1, ""));
    move_("swapon", swapon("/tmp/x", 0));
    move_("clock_settime", clock_settime(CLOCK_REALTIME, &past));
    move_("settimeofday", settimeofday(&past_too, 0));
    move_("syslog", syscall(SYS_syslog, 3, zeros, sizeof zeros));
    move_("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, zeros, 0));
    move_("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
    move_("setuid 0", setuid(0));
    move_("setgid 0", setgid(0));
    move_("more open files", raise_files());
    move_("realtime", realtime());
    move_("nice -20", setpriority(PRIO_PROCESS, 0, -20));
    move_("oom score", writing("/proc/self/oom_score_adj") >= 0 && reading("/proc/self/oom_score_adj") == '0' ? 0 : -1);
    move_("core_pattern", writing("/proc/sys/kernel/core_pattern"));
    move_("ip_forward", writing("/proc/sys/net/ipv4/ip_forward"));
    move_("sysrq", writing("/proc/sysrq-trigger"));
    move_("kcore", reading("/proc/kcore"));
    move_("kmsg", reading("/proc/kmsg"));
    move_("/dev/mem", reading("/dev/mem"));
    move_("/dev/kmsg", reading("/dev/kmsg"));
    move_("/dev/loop0", reading("/dev/loop0"));
    move_("/sys", listing("/sys"));
    move_("/root", listing("/root"));
    move_("/home", listing("/home"));
    move_("/run", listing("/run"));
    move_("/etc/shadow", reading("/etc/shadow"));
    move_("write /", making("/x"));
    move_("write /usr", making("/usr/x"));
    move_("write /etc/hosts", writing("/etc/hosts"));
    move_("write /var/task", making("/var/task/x"));
    move_("write /opt", making("/opt/x"));
    move_("host's /tmp", reading("/tmp/onrush-host-marker"));
    char byte = '\n';
    move_("TIOCSTI", syscall(SYS_ioctl, 0, 0x5412, &byte));
    printf("%d won\n", wins);
}

static void show(const char *path) {
    char buffer[65536];
    int fd = open(path, O_RDONLY);
    if (fd < 0) { printf("%s: %s\n", path, strerror(errno)); return; }
    long count;
    while ((count = read(fd, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, count, stdout);
    close(fd);
}

static void about(char **environment) {
    show("/proc/self/status");
    show("/proc/self/uid_map");
    char name[256];
    gethostname(name, sizeof name);
    printf("hostname=%s\npid=%d parent=%d\ncwd=%s\n", name, getpid(), getppid(), getcwd(0, 0));
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(folder)) printf("fd=%s\n", entry->d_name);
    for (; *environment; environment++) printf("env=%s\n", *environment);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("nofile=%lu\n", (unsigned long)limit.rlim_cur);
    struct statvfs tmp;
    statvfs("/tmp", &tmp);
    printf("inodes=%lu\n", (unsigned long)tmp.f_files);
}

static void hog(int megabytes) {
    for (int i = 0; i < megabytes; i++) {
        char *block = malloc(1 << 20);
        if (!block) { printf("malloc failed at %d MB\n", i); exit(9); }
        memset(block, i + 1, 1 << 20);
        if (i % 16 == 15) { printf("%d MB\n", i + 1); fflush(stdout); }
    }
    printf("got all\n");
}

static void fill(const char *path, int megabytes) {
    static char block[1 << 20];
    memset(block, 7, sizeof block);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) { printf("open: %s\n", strerror(errno)); return; }
    for (int i = 0; i < megabytes; i++) {
        // What just fits is written, on some kernels; the reason comes with the next call.
        for (long left = sizeof block, count; left > 0; left -= count) {
            count = write(fd, block, left);
            if (count < 0) { printf("stopped after %d MB: %s\n", i, strerror(errno)); return; }
        }
    }
    printf("wrote %d MB\n", megabytes);
}

static void inodes(void) {
    char name[64];
    for (int i = 0; i < 100000; i++) {
        snprintf(name, sizeof name, "/tmp/f%d", i);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        if (fd < 0) { printf("stopped at %d: %s\n", i, strerror(errno)); return; }
        close(fd);
    }
    printf("no limit\n");
}

/* Each child takes so much memory of its own. */
static void bomb(int kilobytes) {
    static char block[1 << 20];
    int forks = 0;
    for (;;) {
        pid_t pid = fork();
        if (pid == 0) { memset(block, 1, kilobytes << 10); pause(); _exit(0); }
        if (pid < 0) { printf("fork %d: %s\n", forks, strerror(errno)); return; }
        forks++;
    }
}

/* Prints a count every millisecond. */
static void tick(void) {
    for (int i = 0;; i++) {
        char line[32];
        int count = snprintf(line, sizeof line, "%d\n", i);
        if (write(1, line, count) < 0) _exit(0);
        usleep(1000);
    }
}

/* Leaves a grandchild in a session of its own that keeps `path` growing, then waits. */
static void daemonize(void) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            prctl(PR_SET_NAME, "escapee", 0, 0, 0);
            for (;;) { if (write(1, "x", 1) < 0) _exit(0); usleep(1000); }
        }
        _exit(0);
    }
    wait(0);
    printf("left\n");
    fflush(stdout);
    pause();
}

/* Connects to every port of every address given. */
static void scan(void) {
    const char *addresses[] = {"127.0.0.1", "127.0.0.2", "10.0.0.1", "169.254.169.254", "8.8.8.8", 0};
    for (int a = 0; addresses[a]; a++) {
        for (int port = 1; port < 65536; port++) {
            struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
            inet_pton(AF_INET, addresses[a], &address.sin_addr);
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == EINPROGRESS) {
                struct sockaddr_in own;
                socklen_t own_length = sizeof own;
                getsockname(fd, (struct sockaddr *)&own, &own_length);
                if (own.sin_port == address.sin_port) { close(fd); continue; } /* reached itself */
                struct pollfd wait = {fd, POLLOUT, 0};
                int error = 0;
                socklen_t length = sizeof error;
                poll(&wait, 1, 20);
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
                if (!error && (wait.revents & POLLOUT)) printf("open %s:%d\n", addresses[a], port);
                if (!wait.revents) { /* with an interface that nobody reads: the same for every port */
                    printf("silent %s\n", addresses[a]);
                    close(fd);
                    break;
                }
            } else if (errno == ENETUNREACH) {
                printf("unreachable %s\n", addresses[a]);
                close(fd);
                break;
            }
            close(fd);
        }
    }
    printf("scanned\n");
}

static int abstract(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0onrush-marker"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t) + 14)) return -1;
    return fd;
}

static int hits(const char *path, const char *marker) {
    static char buffer[1 << 20];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    long count = read(fd, buffer, sizeof buffer);
    close(fd);
    return count > 0 && memmem(buffer, count, marker, strlen(marker)) != 0;
}

#define SHARED_KEY 0x5f1c
#define PROJECT "4242"

/* Plants the marker wherever a function can, or looks for it there. */
static void plant(const char *marker) {
    int fd = open("/tmp/marker", O_WRONLY | O_CREAT, 0666);
    if (write(fd, marker, strlen(marker)) < 0) perror("write");
    mkdir("/tmp/folder", 0777);
    close(open("/tmp/folder/file", O_WRONLY | O_CREAT, 0666));
    if (abstract() < 0) perror("abstract");
    prctl(PR_SET_NAME, marker, 0, 0, 0);
    if (shmget(SHARED_KEY, 4096, IPC_CREAT | 0666) < 0) perror("shmget");
    if (msgget(SHARED_KEY, IPC_CREAT | 0666) < 0) perror("msgget");
    /* A map of project ids asks for no privilege, and stays for as long as its user namespace. */
    fd = open("/proc/self/projid_map", O_WRONLY);
    if (write(fd, PROJECT " 0 1", strlen(PROJECT " 0 1")) < 0) errno = 0;
    close(fd);
    printf("planted\n");
    fflush(stdout);
    pause();
}

static void search(const char *marker) {
    int found = 0;
    if (listing("/tmp") > 0) { printf("hit /tmp\n"); found++; }
    if (hits("/proc/keys", marker)) { printf("hit keys\n"); found++; }
    if (hits("/proc/net/unix", marker)) { printf("hit unix\n"); found++; }
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == getpid()) continue;
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        if (hits(path, marker)) { printf("hit process\n"); found++; }
    }
    if (shmget(SHARED_KEY, 0, 0) >= 0) { printf("hit shared memory\n"); found++; }
    if (msgget(SHARED_KEY, 0) >= 0) { printf("hit message queue\n"); found++; }
    if (abstract() < 0) { printf("hit abstract socket\n"); found++; }
    if (hits("/proc/self/projid_map", PROJECT)) { printf("hit project ids\n"); found++; }
    printf("%d hits\n", found);
}

static void spin(int milliseconds) {
    struct timespec start, now, cpu;
    clock_gettime(CLOCK_MONOTONIC, &start);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    long used, before = cpu.tv_sec * 1000 + cpu.tv_nsec / 1000000;
    do {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
        used = cpu.tv_sec * 1000 + cpu.tv_nsec / 1000000 - before;
    } while (used < milliseconds);
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("%ld ms\n", (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
}

/* Waits for a byte from the Runtime API's listener, so that the test decides when the program goes on. */
static void await(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9001)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) { printf("connect: %s\n", strerror(errno)); exit(1); }
    if (read(fd, &byte, 1) != 1) { printf("no byte\n"); exit(1); }
    close(fd);
}

int main(int count, char **words, char **environment) {
    for (int i = 1; i < count; i++) {
        char *word = words[i];
        if (!strcmp(word, "isolation")) isolation();
        else if (!strcmp(word, "about")) about(environment);
        else if (!strcmp(word, "hog")) hog(atoi(words[++i]));
        else if (!strcmp(word, "hog-child")) {
            i++;
            if (fork() == 0) { hog(atoi(words[i])); _exit(0); }
            pause();
        } else if (!strcmp(word, "fill")) fill("/tmp/fill", atoi(words[++i]));
        else if (!strcmp(word, "inodes")) inodes();
        else if (!strcmp(word, "bomb")) bomb(0);
        else if (!strcmp(word, "crowd")) bomb(atoi(words[++i]));
        else if (!strcmp(word, "tick")) tick();
        else if (!strcmp(word, "daemonize")) daemonize();
        else if (!strcmp(word, "scan")) scan();
        else if (!strcmp(word, "plant")) plant(words[++i]);
        else if (!strcmp(word, "search")) search(words[++i]);
        else if (!strcmp(word, "spin")) spin(atoi(words[++i]));
        else if (!strcmp(word, "await")) await();
        else if (!strcmp(word, "say")) printf("%s\n", words[++i]);
        else if (!strcmp(word, "append")) {
            int fd = open("/tmp/kept", O_WRONLY | O_CREAT | O_APPEND, 0600);
            if (write(fd, "+", 1) < 0) perror("append");
            close(fd);
        } else if (!strcmp(word, "show")) { show(words[++i]); printf("\n"); }
        else if (!strcmp(word, "exit")) { fflush(stdout); _exit(atoi(words[++i])); }
        else if (!strcmp(word, "signal")) { fflush(stdout); kill(getpid(), atoi(words[++i])); pause(); }
        else if (!strcmp(word, "abort")) abort();
        else if (!strcmp(word, "segv")) { fflush(stdout); *(volatile int *)8 = 1; }
        else if (!strcmp(word, "pause")) { fflush(stdout); pause(); }
        else { printf("unknown word %s\n", word); return 64; }
        fflush(stdout);
    }
    return 0;
}
